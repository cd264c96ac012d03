"""Which stages a dataset needs, and which of them one worker does together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pm.data.captioning import marking
from pm.data.config import PreprocessConfig
from pm.data.records import Photo
from pm.data.run.worker import Stage
from pm.data.source import download
from pm.data.stages import captions, crop, faces, ingest, masks, verify
from pm.model.base_sizes import BaseSizes

PRECOMPUTE = "precompute"  # that of its module, which brings torch: seconds, in workers that need none
IDENTITIES = "identities"  # the last look at who still has enough photos
_HEAVY_CAPTIONS = ("blip2",)


@dataclass(frozen=True)
class Step:
    """Stages that follow each other in one worker; `pool`: they hold a model, so they live in actors."""

    name: str
    number: int
    stages: tuple[str, ...]
    pool: bool


def stages_of(config: PreprocessConfig) -> tuple[str, ...]:
    """The stages of a dataset, in order."""
    first = (download.STAGE,) if config.dataset.manifest else ()
    rest = (crop.STAGE, masks.STAGE, captions.STAGE, PRECOMPUTE, IDENTITIES)
    return (*first, ingest.STAGE, faces.STAGE, verify.STAGE, *rest)


def steps_of(config: PreprocessConfig) -> list[Step]:
    """Stages with a model get actors of their own; what lies between them is done in one task."""
    heavy = {download.STAGE: True, PRECOMPUTE: True}
    heavy[faces.STAGE] = config.face.holds_model or config.embedder.name != "none"
    heavy[masks.STAGE] = config.mask.holds_model
    heavy[captions.STAGE] = config.caption.name in _HEAVY_CAPTIONS or _marks_with_models(config)
    found: list[list[str]] = []
    for stage in stages_of(config):
        joins = bool(found) and not heavy.get(stage) and not heavy.get(found[-1][0])
        if joins or stage == IDENTITIES:
            found[-1].append(stage)
        else:
            found.append([stage])
    return [Step(names[0], i, tuple(names), heavy.get(names[0], False)) for i, names in enumerate(found)]


def _marks_with_models(config: PreprocessConfig) -> bool:
    """Templates have the folder's own word, and need no model to find it."""
    return config.caption.name != "template" and marking.make_marker(config.marking) is not None


def make_stages(
    names: Sequence[str], config: PreprocessConfig, sizes: BaseSizes, device: str, shares: int
) -> list[Stage]:
    """Build the stages of a step, models included.

    Args:
        device: "cpu" or "cuda", for models that take one.
        shares: among so many downloaders the connections to a host are divided.
    """
    makers: dict[str, Callable[[], list[Stage]]] = {
        download.STAGE: lambda: _download(config, shares),
        ingest.STAGE: lambda: _ingest(config),
        faces.STAGE: lambda: _faces(config, device),
        verify.STAGE: lambda: _verify(config),
        crop.STAGE: lambda: _crop(config, sizes),
        masks.STAGE: lambda: _masks(config, sizes, device),
        captions.STAGE: lambda: _captions(config),
        PRECOMPUTE: lambda: _precompute(config, sizes, device),
        IDENTITIES: lambda: _identities(config),
    }
    return [stage for name in names for stage in makers[name]()]


def preflight(config: PreprocessConfig) -> None:
    """Fail here with one line for what would fail in every worker with a traceback."""
    config.face.build()
    config.mask.build()
    config.embedder.build()
    captions.make_captioner(config.caption, config.dataset.root)
    marking.make_marker(config.marking)
    if config.dataset.near_duplicate is not None:
        ingest.require_imagehash()


def _download(config: PreprocessConfig, shares: int) -> list[Stage]:
    loader = download.Downloader(config.dataset.download, config.dataset.root, 1 / shares)
    return [Stage(download.STAGE, loader, alone=True)]


def _ingest(config: PreprocessConfig) -> list[Stage]:
    hashes: dict[str, int | None] = {}

    def open_all(photos: list[Photo]) -> list[Photo]:
        return ingest.open_photos(photos, config.dataset.root, config.dataset, hashes)

    def compare(photos: list[Photo]) -> list[Photo]:
        return ingest.drop_duplicates(photos, hashes, config.dataset.near_duplicate)

    return [Stage(ingest.STAGE, open_all, alone=True), Stage(ingest.STAGE, compare, alone=False)]


def _faces(config: PreprocessConfig, device: str) -> list[Stage]:
    root, least = config.dataset.root, config.face.min_size
    detector, embedder = config.face.build(device), config.embedder.build(device)
    return [Stage(faces.STAGE, lambda photos: faces.find_faces(photos, root, detector, embedder, least), alone=True)]


def _verify(config: PreprocessConfig) -> list[Stage]:
    def check(photos: list[Photo]) -> list[Photo]:
        return verify.verify(photos, config.verify, config.embedder.name, config.min_photos)

    return [Stage(verify.STAGE, check, alone=False)]


def _crop(config: PreprocessConfig, sizes: BaseSizes) -> list[Stage]:
    def cut(photos: list[Photo]) -> list[Photo]:
        return crop.crop_photos(photos, config.dataset.root, config.crop, sizes.least_side)

    return [Stage(crop.STAGE, cut, alone=True)]


def _masks(config: PreprocessConfig, sizes: BaseSizes, device: str) -> list[Stage]:
    masker = config.mask.build(device=device, dtype=config.dtype, batch_size=config.workers.batch_size)
    root, side = config.dataset.root, sizes.resolution

    def cut_out(photos: list[Photo]) -> list[Photo]:
        return masks.mask_photos(photos, root, config.mask, masker, side)

    return [Stage(masks.STAGE, cut_out, alone=True)]


def _captions(config: PreprocessConfig) -> list[Stage]:
    size = config.workers.batch_size
    captioner = captions.make_captioner(config.caption, config.dataset.root, dtype=config.dtype, batch_size=size)
    marker = marking.make_marker(config.marking)
    return [Stage(captions.STAGE, lambda photos: captions.caption_photos(photos, captioner, marker), alone=False)]


def _precompute(config: PreprocessConfig, sizes: BaseSizes, device: str) -> list[Stage]:
    from pm.data.stages.precompute import Precompute

    settings = {"device": device, "dtype": config.dtype, "batch_size": config.workers.batch_size}
    stage = Precompute(config.base, sizes, config.features, **settings)
    return [Stage(PRECOMPUTE, stage, alone=True)]


def _identities(config: PreprocessConfig) -> list[Stage]:
    def count(photos: list[Photo]) -> list[Photo]:
        return verify.require_photos(photos, config.min_photos, IDENTITIES)

    return [Stage(IDENTITIES, count, alone=False)]
