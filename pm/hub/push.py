"""An adapter's or a dataset's folder to the Hub, after a question; photos never without licence, source and consent."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.data.dataset.provenance import UNKNOWN
from pm.data.records import INDEX_FILE, META_FILE, read_meta
from pm.errors import ConfigError, DataError, PmError, counted, reason
from pm.files import write_text
from pm.hub.card import CARD, NO_CONSENT, complete_card, dataset_card, read_card
from pm.hub.config import PushConfig

ADAPTER = "adapter.safetensors"


@dataclass(frozen=True)
class Upload:
    """What goes where."""

    folder: Path
    kind: str  # the Hub's: "model" or "dataset"
    files: tuple[str, ...]  # relative to the folder; nothing else is sent
    what: str  # in words


def push(config: PushConfig, ask: Callable[[str], str] | None = None) -> str:
    """Upload; returns the repository's address.

    Args:
        config: what and where.
        ask: a question to its answer; None: on the terminal.

    Raises:
        ConfigError: nothing to upload there, no licence, nobody to ask, or the Hub refused it.
        DataError: a dataset that does not say where its photos come from, or that its people agreed.
        PmError: the answer was no.
    """
    upload = plan(config)
    size = sum((upload.folder / name).stat().st_size for name in upload.files) / 2**20
    place = f"{'the private' if config.private else 'the PUBLIC'} {upload.kind} repository {config.repo}"
    if config.ask:
        if ask is None and not sys.stdin.isatty():
            raise ConfigError(f"nobody can be asked here; say ask=false to upload {upload.what} to {place}")
        files = counted(len(upload.files), "file")
        answer = (ask or input)(f"Upload {upload.what} ({files}, {size:.1f} MiB) to {place}? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            raise PmError("nothing was uploaded")
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(config.repo, repo_type=upload.kind, private=config.private, exist_ok=True)
        api.upload_folder(
            repo_id=config.repo,
            repo_type=upload.kind,
            folder_path=upload.folder,
            allow_patterns=list(upload.files),
            commit_message=f"Upload {upload.what}",
        )
    except Exception as error:  # the client raises a dozen types for "not found", "offline" and "not allowed"
        raise ConfigError(
            f"{config.repo} cannot be written ({reason(error)}); log in with `hf auth login`, or set HF_TOKEN"
        ) from error
    return str(address)


def plan(config: PushConfig) -> Upload:
    """What would be sent, its card completed.

    Raises:
        ConfigError: nothing to upload there, or no licence.
        DataError: as `push`.
    """
    folder = Path(config.folder).expanduser()
    if (folder / META_FILE).is_file():
        upload = _dataset(folder, config)
    elif (folder / ADAPTER).is_file():
        if config.consent:
            raise ConfigError("consent= is for datasets; an adapter holds no photos")
        read_card(folder / CARD)
        upload = Upload(folder, "model", (CARD, ADAPTER), f"the adapter {folder.name}")
    else:
        raise ConfigError(
            f"folder={folder.absolute()} holds neither {ADAPTER} nor {META_FILE}; give the folder of a run, of "
            "`photomaker export format=hub`, or of a dataset"
        )
    head = complete_card(folder / CARD, config.license, config.consent)
    if not head.get("license"):
        raise ConfigError(f"{folder / CARD} names no licence; say license=apache-2.0, cc-by-4.0, other, ...")
    return upload


def _dataset(folder: Path, config: PushConfig) -> Upload:
    """Photos of people: only with the licence and source of each, and a statement of their consent."""
    meta = read_meta(folder)
    origins: dict[str, Any] = meta.get("origins", {})
    ways_out = {"licences": "dataset.licence=..., or a column licence of the manifest", "sources": "this version"}
    for name, setting in ways_out.items():
        numbers = origins.get(name) or {UNKNOWN: meta.get("counts", {}).get("kept", "all")}
        if UNKNOWN in numbers:
            raise DataError(
                f"{folder.absolute()}: {numbers[UNKNOWN]} photos have no {name[:-1]}; photos of people are not "
                f"uploaded without: preprocess again with {setting}"
            )
    if not (folder / CARD).is_file():
        write_text(folder / CARD, dataset_card(meta, name=config.repo))
    _, body = read_card(folder / CARD)
    if not (config.consent and config.consent.strip()) and _unstated(body):
        raise DataError(
            f"{folder.absolute()} holds photos of people; say how they agreed to be published: "
            'consent="signed forms of all people, kept by ..."'
        )
    parts = tuple(sorted(path.name for path in folder.glob("part-*.parquet")))
    # Rejected photos stay here: with their names and addresses, and without any use for others.
    files = (CARD, META_FILE, INDEX_FILE, *parts)
    people = meta["counts"]["identities"]
    return Upload(folder, "dataset", files, f"the photos of {counted(people, 'person', 'people')} in {folder.name}")


def _unstated(body: str) -> bool:
    return NO_CONSENT in body or "consent" not in body.lower()
