"""The program `photomaker`: its first word is the command, the others are Hydra's."""

import difflib
import importlib
import sys
from importlib.metadata import PackageNotFoundError, version

from pipelines._commands import commands
from pipelines._early import until_nobody_reads, watch_imports


@until_nobody_reads()
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
    if name in ("audit", "consent", "edit"):
        return importlib.import_module(f"pipelines._{name}").main(arguments)
    if name == "verify":
        from pipelines._verify import main as verify

        return verify(arguments)
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
