"""Completion for shells: `eval "$(photomaker completion bash)"`; the same for zsh, `… fish | source` for fish."""

import sys
from collections.abc import Iterator
from typing import Any

from pipelines._commands import OTHERS, commands
from pipelines._help import choices

_SHELLS = {
    # Readline breaks words at `=`: they are put together for us, and what is before is taken off again.
    "bash": """_photomaker() {
  local line="${COMP_LINE:0:COMP_POINT}" word
  word="${line##*[[:space:]]}"
  local before="${word%"${COMP_WORDS[COMP_CWORD]}"}"
  [[ "${COMP_WORDS[COMP_CWORD]}" == "=" ]] && before="$word"
  local IFS=$'\\n'
  COMPREPLY=($(photomaker completion words "${COMP_WORDS[1]}" "$COMP_CWORD" "$word" 2>/dev/null))
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
  [[ "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
}
complete -o default -F _photomaker photomaker""",
    "zsh": """_photomaker() {
  local -a found
  found=(${(f)"$(photomaker completion words "${words[2]}" "$((CURRENT - 1))" "${words[CURRENT]}" 2>/dev/null)"})
  (( ${#found} )) || { _files; return }
  compadd -S '' -- ${(M)found:#*[=.]}
  compadd -- ${found:#*[=.]}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _photomaker photomaker""",
    "fish": """function __photomaker
  set -l typed (commandline -opc)
  photomaker completion words "$typed[2]" (count $typed) (commandline -ct) 2>/dev/null
end
complete -c photomaker -a '(__photomaker)'""",
}


def main(arguments: list[str]) -> None:
    """Print a shell's script, or (for the scripts) what a word can become."""
    if arguments[:1] == ["words"] and len(arguments) == 4:
        command, position, word = arguments[1:]
        return print(*words(command if int(position) > 1 else "", word), sep="\n")
    if len(arguments) != 1 or arguments[0] not in _SHELLS:
        sys.exit(f"error: say for which shell: photomaker completion {'|'.join(_SHELLS)}")
    return print(_SHELLS[arguments[0]])


def words(command: str, word: str) -> list[str]:
    """What can stand where `word` begins: commands, or settings and choices of `command`."""
    if not command:
        return [name for name in commands() if name.startswith(word)]
    if command == "completion":
        return [shell for shell in _SHELLS if shell.startswith(word)]
    if command in OTHERS or command not in commands():
        return []
    from serving.compose import composed

    name, equals, _ = word.partition("=")
    if not equals:
        return [key for key in _keys(composed(command, resolve=False)) if key.startswith(word)]
    found = choices(name.partition("@")[0]) or ["true", "false"] * isinstance(_at(command, name), bool)
    return [f"{name}={value}" for value in found if f"{name}={value}".startswith(word)]


def _at(command: str, key: str) -> Any:
    from serving.compose import composed

    node: Any = composed(command, resolve=False)
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _keys(node: dict[str, Any], before: str = "") -> Iterator[str]:
    """Every setting with its path; a group of choices also by its own name."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from [f"{name}="] if not before and choices(str(name)) else []
            yield from _keys(value, f"{before}{name}.")
        else:
            yield f"{before}{name}="
