"""Correct a dataset by hand: edits wait, can be undone, and are then applied together.

photomaker edit data/mine reject anna_woman/3.jpg --why blurred
photomaker edit data/mine keep bert_man/2.jpg                        # that preprocess took for somebody else's
photomaker edit data/mine caption anna_woman/3.jpg "a woman in a red hat"
photomaker edit data/mine word anna_woman/3.jpg girl
photomaker edit data/mine merge anna_2_woman anna_woman              # both are anna_woman, later photos too
photomaker edit data/mine split bella_woman anna_woman/4.jpg anna_woman/5.jpg
photomaker edit data/mine forget carl_man
photomaker edit data/mine reset bert_man/2.jpg                       # nothing by hand for this photo any more
photomaker edit data/mine list
photomaker edit data/mine undo
photomaker edit data/mine apply
"""

import argparse
import sys
from typing import Any

from pipelines._ending import fail
from pm.errors import PmError

_NEEDS = {"list": 0, "undo": 0, "apply": 0, "keep": 1, "reject": 1, "reset": 1, "forget": 1, "caption": 2, "word": 2}
_NEEDS |= {"merge": 2, "split": 2}


def main(arguments: list[str]) -> None:
    """The command."""
    program = sys.argv[0] if sys.argv[0].startswith("photomaker ") else "photomaker edit"
    parser = argparse.ArgumentParser(
        prog=program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="the folder that preprocess wrote")
    parser.add_argument("action", choices=tuple(_NEEDS))
    parser.add_argument("what", nargs="*", help="a photo's name below the root, a person, a caption: see above")
    parser.add_argument("--why", help="kept with the edit")
    options = parser.parse_args(arguments)
    action, what = options.action, options.what
    most = 1 if action == "undo" else len(what) if action == "split" else _NEEDS[action]
    if not _NEEDS[action] <= len(what) <= most:
        parser.error(
            f"{action} takes {_NEEDS[action] or 'nothing'}{' or more' if action == 'split' else ''}; see --help"
        )
    try:
        print(_do(options.dataset, action, what, options.why))
    except PmError as error:
        fail(str(error))
    except KeyboardInterrupt as error:
        fail(str(error) or "interrupted")


def _do(dataset: str, action: str, what: list[str], why: str | None) -> str:
    from pm.data.edits.change import apply, in_words, propose, undo
    from pm.data.edits.file import read_edits

    if action == "apply":
        return apply(dataset).text(dataset)
    if action == "list":
        edits = read_edits(dataset)
        lines = [f"applied: {in_words(edit)}" for edit in edits.applied]
        return "\n".join(lines + [f"waits: {in_words(edit)}" for edit in edits.pending]) or "no edits"
    if action == "undo":
        try:
            number = int(what[0]) if what else 1
        except ValueError:
            fail(f"undo {what[0]}: how many of the last edits? A whole number")
        return "\n".join(f"undone: {in_words(edit)}" for edit in undo(dataset, number))
    edits = propose(dataset, _edit(action, what) | ({"why": why} if why else {}))
    return f"{in_words(edits.pending[-1])}; {len(edits.pending)} waiting, photomaker edit {dataset} apply does them"


def _edit(action: str, what: list[str]) -> dict[str, Any]:
    if action == "merge":
        return {"edit": "merge", "person": what[0], "into": what[1]}
    if action == "split":
        return {"edit": "split", "into": what[0], "photos": what[1:]}
    if action == "forget":
        return {"edit": "forget", "who": what[0]}
    if action in ("caption", "word"):
        return {"edit": "caption", "photo": what[0], "class_word" if action == "word" else "caption": what[1]}
    return {"edit": action, "photo": what[0]}
