"""The program `photomaker`: its first word is the command, the others are Hydra's."""

import ast
import difflib
import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines._early import watch_imports

_HERE = Path(__file__).resolve().parent
OTHERS = {
    "keys": "API keys of the server: add, remove, list.",
    "completion": "Completion of commands and settings for a shell: bash, zsh or fish.",
    "where": "The folders that come with the project: conf, assets, serving/config.yaml.",
}


def commands() -> dict[str, str]:
    """Names and what they do: the modules of this package, and what is not composed by Hydra."""
    files = sorted(path for path in _HERE.glob("[a-z]*.py") if path.stem != "pipelines")
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in files}
    order = ("preprocess", "train", "generate", "evaluate", "export", "serve", "check", "browse", "forget")
    own = sorted(docs, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: docs[name].split("\n")[0] for name in own} | OTHERS


def main() -> None:
    """What the console script calls."""
    name, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in ("-h", "--help", "help"):
        return print(_overview())
    if name in ("-V", "--version"):
        return print(_version())
    known = commands()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        sys.exit(f"error: photomaker has no command {name!r}; {hint}There are {', '.join(known)}")
    sys.argv = [f"photomaker {name}", *arguments]
    watch_imports()
    if name == "keys":
        from serving.http.keys import main as keys

        return keys(arguments)
    if name == "where":
        from pm.resources import resource

        return print(*(resource(path) for path in ("conf", "assets/toon", "serving/config.yaml")), sep="\n")
    if name == "completion":
        from pipelines._completion import main as completion

        return completion(arguments)
    return importlib.import_module(f"pipelines.{name}").main()


def _overview() -> str:
    lines = [f"  {name:12}{what}" for name, what in commands().items()]
    return "\n".join(
        [
            "photomaker <command> [setting=value ...]",
            "",
            *lines,
            "",
            "photomaker <command> --help says more. Settings are those of conf/, written as Hydra has them.",
        ]
    )


def _version() -> str:
    try:
        return version("photomaker-ray")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown: this checkout is not installed"


if __name__ == "__main__":
    main()
