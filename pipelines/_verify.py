"""`photomaker verify picture.png`: what tells where a picture comes from, and what is missing."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pm.errors import PmError, RequestError, reason


def main(arguments: list[str]) -> None:
    """The command. Its status is 1 where a picture cannot be read, else 0."""
    parser = argparse.ArgumentParser(prog="photomaker verify", description=__doc__)
    parser.add_argument("pictures", nargs="+", help="PNG, JPEG or WebP files")
    parser.add_argument("--json", action="store_true", help="one JSON object with a list of findings")
    parser.add_argument(
        "--key", help="file with the watermark's secret; else PHOTOMAKER_WATERMARK_KEY or the public key"
    )
    parser.add_argument("--trust", type=Path, help="PEM file of root certificates whose signers you believe")
    options = parser.parse_args(arguments)
    try:
        roots = None if options.trust is None else _read(options.trust).decode("ascii", "replace")
        watermark = _watermark(options.key)
    except PmError as error:
        sys.exit(f"error: {error}")
    from pm.protect.verify import verify

    found, failed = [], False
    for name in options.pictures:
        try:
            origin = verify(_read(Path(name)), watermark, roots)
        except PmError as error:
            failed = True
            print(f"error: {name} {error}", file=sys.stderr)
            continue
        found.append({"picture": name} | origin.record())
        if not options.json:
            print(f"{name}: {origin.text()}")
    if options.json:
        print(json.dumps({"pictures": found}, indent=2, ensure_ascii=False))
    if failed:
        sys.exit(1)


def _watermark(key: str | None) -> Any:
    """As `conf/protect/usual.yaml` has it."""
    import yaml

    from pm.config import from_mapping
    from pm.protect.watermarks.mark import WatermarkChoice
    from pm.resources import resource

    usual = yaml.safe_load(resource("conf/protect/usual.yaml").read_text(encoding="utf-8"))
    return from_mapping(WatermarkChoice, usual["watermark"] | {"key": key}, "watermark")


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise RequestError(f"cannot be read ({reason(error)}); name a picture's file") from error
