"""Who agreed to what: make the file to write it down in, or look at it.

photomaker consent template photos     # makes photos/consent.yaml, or adds the people who are not in it yet
photomaker consent check photos        # a line for each person: valid, missing, expired, withdrawn, ...
"""

import argparse
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from pipelines._ending import fail
from pm.data.consent.files import Consents, is_consent_file, write_template
from pm.data.source.store import read_bytes
from pm.data.source.tree import found_below
from pm.errors import ConfigError, PmError, counted


def main(arguments: list[str]) -> None:
    """The command."""
    program = sys.argv[0] if sys.argv[0].startswith("photomaker ") else "photomaker consent"
    parser = argparse.ArgumentParser(
        prog=program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("template", "check"))
    parser.add_argument("photos", help="folder with a folder for each person (check: a bucket, too)")
    parser.add_argument("--purpose", default="training", help="what the photos are wanted for (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        people, consents = _read(options.photos)
        if options.action == "template":
            path = write_template(options.photos, sorted(people))
            return print(f"written: {path}; fill it in, then photomaker preprocess consent=required dataset=folder ...")
        return print(_states(people, consents, options.purpose))
    except PmError as error:
        fail(str(error))


def _read(root: str) -> tuple[dict[str, list[str]], Consents]:
    """People with the names of their photos, and what is said of them."""
    people: dict[str, list[str]] = {}
    files = []
    for found in found_below(root, Counter()):
        if is_consent_file(found.name):
            files.append((found.name, found.identity))
        elif found.photo and found.identity:
            people.setdefault(found.identity, []).append(found.name)
    if not people:
        raise ConfigError(f"{Path(root).absolute()} has no photos in folders of people (<name>_<class word>/<photo>)")
    consents = Consents()
    for name, person in sorted(files):
        consents.add(name, person, read_bytes(root, name))
    return people, consents


def _states(people: dict[str, list[str]], consents: Consents, purpose: str) -> str:
    today = datetime.now(UTC).date()
    lines, total = [], Counter[str]()
    for who in sorted(people):
        states = Counter(consents.of(who, photo).state(purpose, today) for photo in people[who])
        total += states
        known = consents.of(who, "")
        until = f", until {known.until}" if known.until else ""
        said = ", ".join(f"{state.replace('_', ' ')} {number}" for state, number in states.items())
        lines.append(f"{who}: {said} of {counted(len(people[who]), 'photo')}{until}")
    everything = ", ".join(f"{state.replace('_', ' ')} {number}" for state, number in total.most_common())
    return "\n".join([*lines, f"for {purpose}: {everything}"])
