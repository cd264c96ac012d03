"""IP-Adapter: photos as an image prompt, attended to beside the text (Ye et al. 2023)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, check_fingerprint
from pm.model.adapter_file import AdapterMeta, load_adapter, strip
from pm.model.base import BaseModel
from pm.model.compose.stacked import Stacked
from pm.model.config import check_trigger_word
from pm.model.files import folder_fingerprint
from pm.model.id_encoder import load_vision
from pm.model.image_projection import LinearProjection, Projection, Resampler, projection_like
from pm.model.ip_adapter import ATTENTION, PROJECTION, ImagePrompter, IPAdapter
from pm.model.kinds.base import AdapterChoice, check_kind
from pm.model.trained import TrainedAdapter


@dataclass(frozen=True)
class IPAdapterChoice(AdapterChoice):
    """What the projection is, and how many tokens a photo has."""

    projection: Literal["linear", "resampler"]  # of the image embedding; of the last but one hidden states ("plus")
    tokens: Annotated[int, Ge(1)]  # of each photo
    depth: Annotated[int, Ge(1)]  # blocks of the resampler

    title: ClassVar[str] = "IP-Adapter"
    marks_class_word: ClassVar[bool] = False
    delays: ClassVar[bool] = False
    weighs_photos: ClassVar[bool] = False
    has_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_trigger_word(self.trigger_word)

    def build(self, base: BaseModel) -> TrainedAdapter:
        tower, width = load_vision(base.vision_path), base.text_width
        projection: Projection = LinearProjection(tower.config.projection_dim, width, self.tokens)
        if self.projection == "resampler":
            inner = 64 * max(1, width // 64 if width < 1280 else 20)  # heads are 64 wide; 1280 inside for SDXL
            projection = Resampler(tower.config.hidden_size, width, self.tokens, inner, self.depth)
        model = IPAdapter(base, tower, projection, self.trigger_word, self.max_id_images)
        if self.gradient_checkpointing:
            model.unet.enable_gradient_checkpointing()
        return model

    def start_from(self, model: Any, path: str | Path) -> None:
        state, meta = load_adapter(path)
        check_kind(meta.kind, self.name, path)
        check_fingerprint(model.base, meta)
        _load(model, state, adapter_state(model).keys(), str(path))

    @classmethod
    def claims(cls, keys: Collection[str]) -> bool:
        return any(key.startswith((PROJECTION, ATTENTION)) for key in keys)

    @classmethod
    def check(cls, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        odd = next((key for key in state if not key.startswith((PROJECTION, ATTENTION))), None)
        if odd is not None or not strip(state, PROJECTION) or not strip(state, ATTENTION):
            raise CheckpointError(
                f"{name} is not an IP-Adapter: it must hold {PROJECTION}* and {ATTENTION}*, found {odd or 'one'}"
            )
        return dict(state)

    @classmethod
    def published(cls, state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], AdapterMeta]:
        found = cls.check(state, name)
        projection_like(strip(found, PROJECTION), name)
        if any("lora" in key for key in found):
            raise CheckpointError(f"{name} is an IP-Adapter for face embeddings (FaceID), which is not supported")
        meta = AdapterMeta(
            kind="ip_adapter",
            base_fingerprint="",
            compose=Stacked("stacked"),
            merge="attention",
            trigger_word="img",
            max_id_images=16,  # trained with one; tokens of several are attended to together
            crop_mode="none",
            project_version="published",
            vision_config={},
            extra={},
        )
        return found, meta

    @classmethod
    def width(cls, state: Mapping[str, Tensor]) -> int | None:
        norms = (state.get(f"{PROJECTION}{name}.weight") for name in ("norm", "norm_out"))
        return next((norm.shape[0] for norm in norms if norm is not None), None)

    @classmethod
    def read(
        cls, base: BaseModel, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool
    ) -> tuple[ImagePrompter, None]:
        if check_base:
            check_fingerprint(base, meta)
        vision = meta.settings.get("vision")
        if vision and check_base and vision != folder_fingerprint(base.vision_path):
            raise CheckpointError(
                f"adapter was trained with another vision tower than {base.vision_path}; set base.vision_path to it"
            )
        # What it is made of comes from the file: drawing random weights first would take longer than reading.
        with torch.device("meta"):
            projection = projection_like(strip(state, PROJECTION), "the adapter")
        tower = load_vision(base.vision_path)
        projection = projection.to_empty(device="cpu")
        prompter = ImagePrompter(base, tower, projection, meta.trigger_word, meta.max_id_images)
        own = {PROJECTION + name for name in prompter.image_proj.state_dict()}
        own |= {ATTENTION + name for name in prompter.ip_adapter.state_dict()}
        _load(prompter, state, own, "the adapter")
        prompter.requires_grad_(False).to(base.unet.device, base.unet.dtype).eval()
        return prompter, None


def _load(model: ImagePrompter, state: Mapping[str, Tensor], own: Collection[str], name: str) -> None:
    missing, unexpected = sorted(set(own) - state.keys()), sorted(state.keys() - set(own))
    if missing or unexpected:
        raise CheckpointError(
            f"{name} does not fit this U-Net: {len(missing)} weights missing (e.g. {missing[:1]}), {len(unexpected)} "
            f"left over (e.g. {unexpected[:1]}); use the base and the projection it was trained with"
        )
    try:
        model.image_proj.load_state_dict(strip(state, PROJECTION))
        model.ip_adapter.load_state_dict(strip(state, ATTENTION))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f"{name} does not fit this base: {' '.join(lines[1:2])[:300]}") from error
