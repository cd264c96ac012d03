"""What the data must know about the base, without its weights and without torch."""

from dataclasses import dataclass

from pm.model.config import BaseConfig
from pm.model.families.base import find_family
from pm.model.files import folder_fingerprint, parts_fingerprint, read_json, resolve_folder


@dataclass(frozen=True)
class BaseSizes:
    """What the data must know about the base, read from its configs without loading weights."""

    fingerprint: str
    resolution: int  # px
    latent_shape: tuple[int, int, int]  # C, h, w
    text_shape: tuple[int, int]  # L, D
    vision_size: int  # px, side of the vision tower's input
    vision_fingerprint: str = ""
    pooled_width: int = 0  # P
    tower_shape: tuple[int, int] = (0, 0)  # T, H: tokens and width inside the vision tower
    tower_layers: int = 0

    @property
    def least_side(self) -> int:
        """Pixels a crop needs so that nothing is enlarged twice."""
        return max(self.resolution, self.vision_size)


def fingerprint(config: BaseConfig) -> str:
    """16 hex digits that identify a base, the same for every copy of it (`pm.model.files.parts_fingerprint`).

    Raises:
        CheckpointError: it is missing, incomplete, damaged, or of a family that is not supported.
    """
    folder = resolve_folder(config.path, part_folders=True)
    return parts_fingerprint(folder, tuple(find_family(folder, config.family).parts))


def base_sizes(config: BaseConfig) -> BaseSizes:
    """Look a base up.

    Raises:
        CheckpointError: the base or the vision tower is missing or incomplete.
    """
    from pm.model.base import check_trainable, load_base  # with torch: seconds, in workers that need only the sizes

    base = load_base(config.path, parts=(), vision_path=config.vision_path, family=config.family)
    check_trainable(base)
    vision = read_json(resolve_folder(base.vision_path) / "config.json")
    vision = vision.get("vision_config", vision)  # a whole CLIP model keeps the tower's settings inside
    size, patch = int(vision.get("image_size", 224)), int(vision.get("patch_size", 32))
    return BaseSizes(
        fingerprint=base.fingerprint,
        resolution=base.resolution,
        latent_shape=(base.latent_channels, base.latent_size, base.latent_size),
        text_shape=(base.max_tokens, base.text_width),
        vision_size=size,
        vision_fingerprint=folder_fingerprint(base.vision_path),
        pooled_width=base.pooled_width,
        tower_shape=((size // patch) ** 2 + 1, int(vision.get("hidden_size", 768))),
        tower_layers=int(vision.get("num_hidden_layers", 12)),
    )
