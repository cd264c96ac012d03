"""Who is in the datasets below a folder, with what consent and until when, and which adapters saw them.

photomaker audit                       # everything below the present folder
photomaker audit data runs --json
photomaker audit . --who anna_woman
"""

import argparse
import json
import sys

from pipelines._ending import fail
from pm.errors import PmError
from pm.protect.audit import audit
from pm.protect.places import Places, places_below


def main(arguments: list[str]) -> None:
    """The command."""
    program = sys.argv[0] if sys.argv[0].startswith("photomaker ") else "photomaker audit"
    parser = argparse.ArgumentParser(
        prog=program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", default=["."], help="where to look, with all below (the present folder)")
    parser.add_argument("--who", help="only this person")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        places = Places()
        for folder in options.folders:
            found = places_below(folder)
            places.datasets += found.datasets
            places.adapters |= found.adapters
        done = audit(places, who=options.who)
    except PmError as error:
        fail(str(error))
    print(json.dumps(done.json(), indent=1, ensure_ascii=False) if options.json else done.text())
