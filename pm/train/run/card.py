"""The card of an adapter, from what its run knows; and the folder that goes to the Hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pm.data.records import read_meta
from pm.errors import CheckpointError, ConfigError, DataError
from pm.files import replace_folder, write_text
from pm.hub.card import CARD, adapter_card
from pm.model.adapter_file import AdapterMeta, read_head, save_adapter
from pm.train.run.summary import ADAPTER


def card_of(
    meta: AdapterMeta, run: Mapping[str, Any] | None, name: str, report: str | None, license: str | None
) -> str:
    """The card.

    Args:
        meta: of the adapter.
        run: settings of its training; None: unknown.
        name: of the adapter.
        report: file of an evaluation; None: none.
        license: the Hub's name for it; None: not chosen.

    Raises:
        ConfigError: the report cannot be read.
    """
    dataset = None
    if run is not None:
        try:
            dataset = read_meta(run["dataset"])
        except (DataError, KeyError):  # it is elsewhere, or gone: the card says that it is not known
            dataset = None
    base = "" if run is None else str(run["base"]["path"])
    return adapter_card(meta, name=name, base=base, run=run, dataset=dataset, report=_report(report), license=license)


def write_card(run_dir: Path, run: Mapping[str, Any]) -> None:
    """Beside the adapter of a finished run; `run`: its settings."""
    meta, _ = read_head(run_dir / ADAPTER)
    write_text(run_dir / CARD, card_of(meta, run, str(run["name"]), None, None))


def save_for_hub(target: Path, state: Mapping[str, Tensor], meta: AdapterMeta, card: str) -> None:
    """Write a folder with the adapter and its card, atomically.

    Raises:
        CheckpointError: the folder is there already.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} is there already; remove it or give another output=")
    with replace_folder(target) as temporary:
        save_adapter(temporary / ADAPTER, state, meta)
        (temporary / CARD).write_text(card, encoding="utf-8")
        (temporary / CARD).chmod(0o644)


def _report(file: str | None) -> dict[str, Any] | None:
    if file is None:
        return None
    path = Path(file).expanduser()
    try:
        found = json.loads((path / "report.json" if path.is_dir() else path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"report={file} cannot be read ({error}); give the report.json of an evaluation") from error
    if not isinstance(found, dict) or "rows" not in found:
        raise ConfigError(f"report={file} is no report of an evaluation; give its report.json")
    return found
