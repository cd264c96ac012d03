"""`mask=mask2former`: panoptic segmentation (Cheng et al. 2022) finds the person, as in the paper (section 3.3)."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Lt
from PIL import Image

from pm.errors import ConfigError
from pm.photo.masks.select import MaskChoice, Masker
from pm.photo.types import Crop


@dataclass(frozen=True)
class Mask2Former(MaskChoice):
    """Panoptic segmentation, as in the paper; needs a GPU to be fast."""

    path: str  # Hub id or folder of a panoptic model
    label: str  # the class of people
    threshold: Annotated[float, Ge(0), Lt(1)]  # least probability of a segment

    holds_model: ClassVar[bool] = True
    uses_gpu: ClassVar[bool] = True

    def build(self, *, device: str | None = None, dtype: str = "float32", batch_size: int | None = None) -> Masker:
        return Mask2FormerMasker(
            self.path, self.label, self.threshold, device=device, dtype=dtype, batch_size=batch_size
        )


class Mask2FormerMasker:
    """Every segment of the class of people is a candidate. The model is loaded at the first photo.

    Args:
        path: Hub id or folder of a `Mask2FormerForUniversalSegmentation` with its image processor.
        label: the class in the model's `id2label`.
        threshold: least probability of a segment.
        device: where it runs; None takes a GPU if there is one.
        dtype: of its weights and computation.
        batch_size: crops in one call; None: measured.

    Raises:
        CheckpointError: the model is missing.
        ConfigError: it does not know the label, or SciPy is not installed.
    """

    def __init__(
        self,
        path: str,
        label: str,
        threshold: float,
        *,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
    ):
        from pm.model.batching import Batcher, best_device
        from pm.model.files import read_json, resolve_folder

        if importlib.util.find_spec("scipy") is None:
            raise ConfigError("mask=mask2former needs SciPy; pip install scipy")
        self.path, self.threshold, self.dtype = path, threshold, dtype
        self.device = device or best_device()
        labels = read_json(resolve_folder(path) / "config.json").get("id2label", {})
        self.labels = {int(number) for number, name in labels.items() if name == label}
        if not self.labels:
            known = ", ".join(sorted(map(str, labels.values()))[:8])
            raise ConfigError(f"mask.label={label!r} is not a class of {path}; it knows {known or 'none'}, ...")
        self._batches = Batcher(batch_size, self.device)

    def __call__(self, crop: Crop) -> list[np.ndarray]:
        return self.many([crop])[0]

    def many(self, crops: Sequence[Crop]) -> list[list[np.ndarray]]:
        """Masks of the people in each crop, uint8 [S, S], 255 on the person."""
        return self._batches(self._segment, [crop.pixels for crop in crops])

    def _segment(self, crops: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        import torch

        from pm.model.pretrained import load_pretrained

        names = ("Mask2FormerForUniversalSegmentation", "AutoImageProcessor")
        model, processor = load_pretrained("mask.path", self.path, *names, self.device, self.dtype)
        inputs = processor(images=[Image.fromarray(crop) for crop in crops], return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.device, model.dtype)
        with torch.no_grad():
            outputs = model(pixel_values=pixels, pixel_mask=inputs["pixel_mask"].to(self.device))
        outputs.class_queries_logits = outputs.class_queries_logits.float()
        outputs.masks_queries_logits = outputs.masks_queries_logits.float()
        sizes = [crop.shape[:2] for crop in crops]
        # People are things, not stuff: nothing is fused, each keeps a mask of his own.
        found = processor.post_process_panoptic_segmentation(
            outputs, threshold=self.threshold, label_ids_to_fuse=set(), target_sizes=sizes
        )
        return [self._people(one["segmentation"].cpu().numpy(), one["segments_info"]) for one in found]

    def _people(self, segmentation: np.ndarray, segments: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        ids = [segment["id"] for segment in segments if segment["label_id"] in self.labels]
        return [np.where(segmentation == i, 255, 0).astype(np.uint8) for i in ids]
