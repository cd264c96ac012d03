"""API keys: only their hashes are kept. `python -m serving.http.keys add NAME` makes one and prints it once.

Keys can end by themselves (`--expires 90d` or `2027-01-31`) and be revoked; servers follow without a restart.
"""

import argparse
import hashlib
import hmac
import secrets
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml

from pm.config import from_mapping
from pm.errors import ConfigError, PmError, reason
from pm.files import write_text, writing

ANONYMOUS = "anonymous"
_MAKE = "make it with 'python -m serving.http.keys add NAME'"


@dataclass(frozen=True)
class Key:
    """Somebody who may use the service."""

    sha256: str  # of the key; keys are 256 random bits, so a slow hash would add nothing
    images_per_minute: float | None  # None: no limit
    concurrent_images: int | None
    # ISO 8601 times, UTC; files of earlier versions have neither.
    expires: str | None = None
    revoked: str | None = None

    def problem(self, now: datetime) -> str | None:
        """Why it does not hold now; None: it does."""
        if self.revoked is not None:
            return f"was revoked on {self.revoked[:10]}"
        if self.expires is not None and datetime.fromisoformat(self.expires) <= now:
            return f"expired on {self.expires[:10]}"
        return None


class KeyFile:
    """Keys by name, read again when the file changes: a removed key stops working within a second."""

    def __init__(self, path: str | Path) -> None:
        """Read the keys.

        Raises:
            ConfigError: the file is missing or not one of ours.
        """
        self.path = Path(path)
        self._version: tuple | None = None
        self.keys: dict[str, Key] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the file if it has changed.

        Raises:
            ConfigError: missing or not one of ours.
        """
        try:
            stat = self.path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if version != self._version:
                self.keys = read_keys(self.path)
                self._version = version
        except OSError as error:
            raise ConfigError(f"keys.file={self.path.absolute()} cannot be read ({error.strerror})") from error

    def find(self, key: str) -> str | None:
        """The name of a key; takes the same time whichever is wrong, and wherever."""
        digest, found = hash_key(key), None
        for name, known in self.keys.items():
            if hmac.compare_digest(known.sha256.encode(), digest.encode()):
                found = name
        return found


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> dict[str, Key]:
    """Read a key file.

    Raises:
        OSError: not there.
        ConfigError: not one of ours.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"keys.file={path} is not YAML ({reason(error)})") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"keys.file={path} must map names to keys; make it with 'python -m serving.http.keys add NAME'"
        )
    keys = {str(name): from_mapping(Key, value, f"{path}: {name}") for name, value in content.items()}
    for name, key in keys.items():
        if len(key.sha256) != 64 or name == ANONYMOUS or not all(map(_is_time, (key.expires, key.revoked))):
            raise ConfigError(
                f"keys.file={path}: {name} is not a key; make it with 'python -m serving.http.keys add NAME'"
            )
    return keys


def _is_time(text: str | None) -> bool:
    """A time with its zone, or none at all."""
    try:
        return text is None or datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False


def expiry(text: str, now: datetime) -> str:
    """When a key ends: `90d` or `12h` from now, or the end of a day (UTC).

    Raises:
        ConfigError: it is neither, or past.
    """
    try:
        if text[-1:] in ("d", "h"):
            ends = now + timedelta(**{"days" if text[-1] == "d" else "hours": float(text[:-1])})
        else:
            ends = datetime.combine(date.fromisoformat(text), datetime.max.time(), UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"--expires {text}: write 90d, 12h or a day as 2027-01-31") from None
    if ends <= now:
        raise ConfigError(f"--expires {text} is past")
    return ends.isoformat(timespec="seconds")


def write_keys(path: Path, keys: dict[str, Key]) -> None:
    """Write a key file atomically, readable by its owner alone."""
    with writing(path, "--file"):
        write_text(path, yaml.safe_dump({n: asdict(k) for n, k in keys.items()}), mode=0o600)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    program = sys.argv[0] if sys.argv[0].startswith("photomaker ") else "python -m serving.http.keys"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("action", choices=("add", "revoke", "remove", "list"))
    parser.add_argument("name", nargs="?", help="who the key is for; shows in logs and metrics")
    parser.add_argument("--file", type=Path, default=Path("keys.yaml"))
    parser.add_argument("--images-per-minute", type=float)
    parser.add_argument("--concurrent-images", type=int)
    parser.add_argument("--expires", help="90d or 12h from now, or the last day, as 2027-01-31")
    options = parser.parse_args(arguments)
    try:
        print(_do(options))
    except PmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _do(options: argparse.Namespace) -> str:
    """What the command prints."""
    keys, now = read_keys(options.file) if options.file.exists() else {}, datetime.now(UTC)
    if options.action == "list":
        return "\n".join(_line(*each, now) for each in keys.items()) or f"no keys in {options.file.absolute()}; {_MAKE}"
    if not options.name or options.name == ANONYMOUS:
        raise ConfigError(f"say whose key it is: python -m serving.http.keys {options.action} alice")
    if options.action in ("remove", "revoke"):
        if options.name not in keys:
            raise ConfigError(f"{options.file} has no key {options.name!r}; it has {', '.join(keys) or 'none'}")
        key = keys.pop(options.name)
        if options.action == "revoke":  # it stays in the list, and its name is not given again
            keys[options.name] = replace(key, revoked=key.revoked or now.isoformat(timespec="seconds"))
        write_keys(options.file, keys)
        return f"{options.name}: {options.action}d; running servers follow within a second"
    if options.name in keys:
        raise ConfigError(f"{options.file} already has a key {options.name!r}; remove it first")
    expires = None if options.expires is None else expiry(options.expires, now)
    secret = f"pm-{secrets.token_urlsafe(32)}"
    keys[options.name] = Key(hash_key(secret), options.images_per_minute, options.concurrent_images, expires)
    write_keys(options.file, keys)
    ends = f" and ends {expires}" if expires else ""
    print(f"written to {options.file} as a hash{ends}; it cannot be shown again", file=sys.stderr)
    return secret


def _line(name: str, key: Key, now: datetime) -> str:
    limits = f"images_per_minute={key.images_per_minute} concurrent_images={key.concurrent_images}"
    state = key.problem(now) or (f"until {key.expires}" if key.expires else "")
    return f"{name}: {limits}{f' {state}' if state else ''}"


if __name__ == "__main__":
    main()
