"""API keys: only their hashes are kept. `python -m serving.http.keys add NAME` makes one and prints it once."""

import argparse
import hashlib
import hmac
import secrets
import sys
from dataclasses import asdict, dataclass
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
        if len(key.sha256) != 64 or name == ANONYMOUS:
            raise ConfigError(
                f"keys.file={path}: {name} is not a key; make it with 'python -m serving.http.keys add NAME'"
            )
    return keys


def write_keys(path: Path, keys: dict[str, Key]) -> None:
    """Write a key file atomically, readable by its owner alone."""
    with writing(path, "--file"):
        write_text(path, yaml.safe_dump({n: asdict(k) for n, k in keys.items()}), mode=0o600)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    program = sys.argv[0] if sys.argv[0].startswith("photomaker ") else "python -m serving.http.keys"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("action", choices=("add", "remove", "list"))
    parser.add_argument("name", nargs="?", help="who the key is for; shows in logs and metrics")
    parser.add_argument("--file", type=Path, default=Path("keys.yaml"))
    parser.add_argument("--images-per-minute", type=float)
    parser.add_argument("--concurrent-images", type=int)
    options = parser.parse_args(arguments)
    try:
        keys = read_keys(options.file) if options.file.exists() else {}
        if options.action == "list":
            if not keys:
                print(f"no keys in {options.file.absolute()}; {_MAKE}")
            for name, key in keys.items():
                print(f"{name}: images_per_minute={key.images_per_minute} concurrent_images={key.concurrent_images}")
            return
        if not options.name or options.name == ANONYMOUS:
            raise ConfigError("say whose key it is: python -m serving.http.keys add alice")
        if options.action == "remove":
            if keys.pop(options.name, None) is None:
                raise ConfigError(f"{options.file} has no key {options.name!r}; it has {', '.join(keys) or 'none'}")
            write_keys(options.file, keys)
            return
        if options.name in keys:
            raise ConfigError(f"{options.file} already has a key {options.name!r}; remove it first")
        secret = f"pm-{secrets.token_urlsafe(32)}"
        keys[options.name] = Key(hash_key(secret), options.images_per_minute, options.concurrent_images)
        write_keys(options.file, keys)
        print(secret)
        print(f"written to {options.file} as a hash; it cannot be shown again", file=sys.stderr)
    except PmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
