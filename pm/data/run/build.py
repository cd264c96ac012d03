"""Photos → dataset, as the driver sees it: list, look ahead, send through the graph, finish."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pm.data.config import PreprocessConfig
from pm.data.dataset.grow import merge_growth, prepare_growth
from pm.data.dataset.output import locked, prepare_output, put_in_place
from pm.data.dataset.preview import write_preview
from pm.data.dataset.writer import PREVIEW_FILE, WORK, finish, finished_shards
from pm.data.records import REJECTS_FILE, SOURCES_FILE, Reject, read_meta
from pm.data.run.advice import advise
from pm.data.run.present import Present, present
from pm.data.run.progress import waiting
from pm.data.run.shards import Report, describe, plan_shards, settings_of, shard_limit
from pm.data.run.steps import stages_of
from pm.data.source.listing import KeptListing, Listing
from pm.data.stages.stage import Stage
from pm.errors import DataError, WriteError, counted
from pm.files import is_full, writing
from pm.model.base_sizes import BaseSizes, base_sizes

_GOES_ON = "the same command resumes where this one stopped"


def build(config: PreprocessConfig) -> Report:
    """Make the dataset, or resume an unfinished one; starts Ray if it is needed and not there.

    With other settings than those of the dataset that is there, what they concern is done again; with other photos, the
    people concerned are.

    Raises:
        DataError: no photos, the output folder is somebody else's, or every photo was rejected.
        CheckpointError: the base, the vision tower or the probe is missing.
        ConfigError: the cluster cannot hold the workers asked for.
    """
    start, config = time.monotonic(), absolute(config)
    config.dataset.prepare()
    with contextlib.ExitStack() as held:
        if there := Path(config.output).exists():
            held.enter_context(locked(config.output))
        return _build(config, start, held, there)


def _build(config: PreprocessConfig, start: float, held: contextlib.ExitStack, there: bool) -> Report:
    """`held` has the lock of a folder that is `there`; of a new one it gets it once it is known that it is needed."""
    before = present(config)
    with waiting(f"listing the photos of {config.dataset.place}"):
        listing = Listing(config.dataset, before.rules(config), before.sources)
    with listing:
        with waiting("looking for the models"):
            sizes, stages = base_sizes(config.base), stages_of(config)
            for stage in stages:
                stage.check()
        for line in (line for stage in stages for line in stage.notices(listing.identities())):
            _say(line)
        settings = settings_of(config, sizes, listing.digest)
        try:
            if not there:
                held.enter_context(locked(config.output))
            with writing(config.output, "output="):
                if then := before.unfinished(listing.digest, config.overwrite):
                    _finish_first(config, sizes, stages, then, before)
                    return _build(config, start, held, there=True)
                count, said = _make(config, sizes, stages, settings, listing, before)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_GOES_ON) from None
        except WriteError as error:
            if not is_full(error):
                raise
            raise DataError(f"{error}; then {_GOES_ON}") from error
    meta, lines = read_meta(config.output), advise(_rejects(config.output), listing.found, stages)
    report = Report(meta, count, time.monotonic() - start, [*said, *lines])
    if meta["counts"]["kept"] == 0:
        raise DataError(report.nothing_kept(str(config.dataset.root), config.output))
    return report


def _finish_first(
    config: PreprocessConfig, sizes: BaseSizes, stages: Sequence[Stage], then: Path, before: Present
) -> None:
    """Finish a dataset with the list of photos that it began with; what came, went or changed since comes after."""
    _say("photos came, went or changed since it began: it is finished with those of then first")
    with KeptListing(then) as listing:
        _make(config, sizes, stages, settings_of(config, sizes, listing.digest), listing, before)


def _make(
    config: PreprocessConfig,
    sizes: BaseSizes,
    stages: Sequence[Stage],
    settings: dict[str, Any],
    listing: Listing,
    before: Present,
) -> tuple[int, list[str]]:
    """Bring the output folder to these settings; how many photos had to be looked at, and what came and went."""
    order = [stage.name for stage in stages]
    owners = {name: stage.name for stage in reversed(stages) for name in stage.depends()}
    changed = None if config.overwrite else before.grows(settings, listing.changes)
    if changed is None:
        opened = prepare_output(config.output, settings, order, owners, config.overwrite)
    else:
        opened = prepare_growth(config.output, settings, changed.state)
    note, count = opened.note if changed is None else f"{changed.text()}; done again: {_people(listing)}", 0
    if note:
        _say(note)
    described = describe(config, sizes, settings) | {"ignored_files": dict(listing.ignored)} | before.noted
    if not opened.complete:
        kept_list = opened.folder / WORK / SOURCES_FILE
        if not kept_list.exists():
            listing.write_sources(kept_list)
        to_do = replace(config, output=str(opened.folder))
        count = _run(to_do, sizes, stages, listing, changed=changed is not None)
        with waiting("writing the index"):
            state = {} if changed is None else {"state": changed.state}
            finish(opened.folder, order, described | {"settings": settings | state})
    if changed is not None:
        with waiting("putting the new rows in their place"):
            merge_growth(config.output, described, listing.redone(), changed.record())
    elif opened.folder != Path(config.output):
        put_in_place(config.output)
    elif opened.complete and (listing.changes is None or listing.changes.consents):
        listing.write_sources(Path(config.output, SOURCES_FILE))
    if not Path(config.output, PREVIEW_FILE).exists():
        write_preview(config.output, str(config.dataset.root))
    said = [] if changed is None else [f"since the last time: {changed.text()}"]
    return count, said + ([_left_out(listing.left_out)] if listing.left_out else [])


def _people(listing: Listing) -> str:
    everybody = set(listing.identities())
    again = sum(identity in everybody for identity in listing.redone())
    return f"{counted(again, 'person', 'people')} of {len(everybody)}, the others stay as they are"


def _left_out(number: int) -> str:
    return f"{counted(number, 'photo')} of people who were removed (photomaker forget) left out; delete the raw photos"


def _rejects(output: str) -> Iterator[tuple[str, Reject]]:
    """The rows of `rejects.parquet`, read in batches."""
    names = ["stage", "reason", "value", "threshold"]
    for batch in pq.ParquetFile(Path(output, REJECTS_FILE)).iter_batches(columns=["identity", *names]):
        for row in batch.to_pylist():
            yield row["identity"], Reject(*(row[name] for name in names))


def _say(line: str) -> None:
    print(f"preprocess: {line}", file=sys.stderr, flush=True)


def absolute(config: PreprocessConfig) -> PreprocessConfig:
    """Local paths made absolute: workers may run in another folder. Hub ids and buckets stay."""

    def local(path: str) -> str:
        return str(Path(path).absolute()) if Path(path).exists() else path

    return replace(
        config,
        output=str(Path(config.output).absolute()),
        dataset=config.dataset.absolute(),
        base=replace(config.base, path=local(config.base.path), vision_path=local(config.base.vision_path)),
        embedder=_with_local_path(config.embedder, local),
    )


def _with_local_path(part: Any, local: Callable[[str], str]) -> Any:
    """A part of the configuration with its file made absolute, if it has one."""
    return replace(part, path=local(part.path)) if hasattr(part, "path") else part


def _run(
    config: PreprocessConfig, sizes: BaseSizes, stages: Sequence[Stage], listing: Listing, *, changed: bool = False
) -> int:
    """Send the shards that are not finished through the graph; how many photos they have.

    `changed`: only the people of whom something changed.
    """
    found = listing.count(changed=changed)
    limit = shard_limit(found, config.workers.shard_photos)
    done = finished_shards(config.output)
    planned = lambda: plan_shards(listing.photos(changed=changed), limit)  # noqa: E731
    before = sum(len(shard) for shard in planned() if shard[0].shard in done)
    count = found - before
    if count:
        from pm.data.run.graph import run_graph  # with Ray, which takes a second

        pending = (shard for shard in planned() if shard[0].shard not in done)
        run_graph(config, sizes, stages, pending, count, before)
    return count
