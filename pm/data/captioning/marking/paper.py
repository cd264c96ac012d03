"""`marking=paper`: the paper's choice among class words that are not the group's (section 3.3, "Captioning ...").

A dependency parse splits the caption into one part for each class word; the word with the highest product of CLIP score
(its part, the masked person) and similarity (the word, the group's word) is marked. Needs the extra `captions`.
"""

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pm.data.captioning.marking.choice import Marker, MarkingChoice
from pm.data.records import Photo
from pm.errors import CheckpointError, ConfigError, install_hint, reason
from pm.photo.pixels import decode_png, resize_mask

if TYPE_CHECKING:
    from torch import Tensor

_GREY = 124  # CLIP's mean colour, near enough: what the region leaves out says nothing


@dataclass(frozen=True)
class Paper(MarkingChoice):
    """Scores the parts of a sentence by three models."""

    parser: str  # name or folder of a spaCy pipeline with a dependency parser
    sentences: str  # Hub id or folder of a sentence-transformers model
    clip: str  # Hub id or folder of a CLIP model

    @property
    def holds_model(self) -> bool:
        """Its models stay in workers of their own."""
        return True

    def build(self, *, device: str) -> Marker | None:
        """A `PaperMarker`.

        Raises:
            ConfigError: its packages or the parser are not installed.
        """
        if missing := self.missing():
            raise ConfigError(f"marking=paper needs {missing}; or choose marking=simple")
        return PaperMarker(self, device)

    def missing(self) -> str:
        """What is not installed, and how to get it; "" if nothing."""
        if any(importlib.util.find_spec(name) is None for name in ("spacy", "sentence_transformers")):
            return f"spaCy and sentence-transformers, run {install_hint('captions')}"
        if not Path(self.parser).is_dir() and not _is_installed(self.parser):
            return (
                f"the spaCy pipeline {self.parser}, run python -m spacy download {self.parser} or give a folder "
                "(marking.parser=...)"
            )
        return ""


class PaperMarker:
    """A `Marker`; its three models are loaded when the first caption needs them.

    Raises:
        CheckpointError: a model is missing.
        ConfigError: the spaCy pipeline has no dependency parser.
    """

    def __init__(self, config: Paper, device: str):
        self.config, self.device = config, device

    def __call__(self, photo: Photo, words: Sequence[str], group_word: str) -> str:
        parts = segments(_parser(self.config.parser), photo.caption, words)
        clip = self.clip_scores(id_region(photo), [parts[word] for word in words])
        scores = clip * self.similarities(words, group_word)
        return words[int(np.argmax(scores))]

    def clip_scores(self, region: Image.Image, texts: Sequence[str]) -> np.ndarray:
        """CLIP score of each text with the picture, 0..1 (Hessel et al. 2021, without their factor)."""
        import torch

        from pm.model.images import to_clip
        from pm.model.pretrained import load_pretrained

        model, tokenizer = load_pretrained("marking.clip", self.config.clip, "CLIPModel", "CLIPTokenizer", self.device)
        length = model.config.text_config.max_position_embeddings
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        pixels = to_clip([region], model.config.vision_config.image_size).to(self.device)
        with torch.no_grad():
            image = _unit(model.get_image_features(pixel_values=pixels))
            text = _unit(model.get_text_features(**tokens.to(self.device)))
        return (text @ image.T)[:, 0].clamp(min=0).cpu().numpy()

    def similarities(self, words: Sequence[str], group_word: str) -> np.ndarray:
        """Cosine of the sentence embeddings of each word and the group's word, 0..1."""
        model = _sentences(self.config.sentences, self.device)
        vectors = model.encode([*words, group_word], normalize_embeddings=True, show_progress_bar=False)
        return np.clip(vectors[:-1] @ vectors[-1], 0, None)


def segments(parser: Any, caption: str, words: Sequence[str]) -> dict[str, str]:
    """For each class word the part of the caption that depends on it, less the parts of the others below it."""
    tokens: dict[str, Any] = {}
    for token in parser(caption):
        if token.lower_ in words:
            tokens.setdefault(token.lower_, token)
    parts = {word: word for word in words}
    for word, token in tokens.items():
        below = {t.i for other in tokens.values() if token.is_ancestor(other) for t in other.subtree}
        parts[word] = " ".join(t.text for t in token.subtree if t.i not in below)
    return parts


def id_region(photo: Photo) -> Image.Image:
    """The crop with everything but the person grey."""
    crop = decode_png(photo.crop, "RGB")
    mask = resize_mask(decode_png(photo.mask, "L"), crop.width)
    return Image.composite(crop, Image.new("RGB", crop.size, (_GREY,) * 3), mask)


def _unit(output: Any) -> "Tensor":
    import torch

    features = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(features.float(), dim=-1)


@functools.lru_cache(maxsize=1)
def _parser(name: str) -> Any:
    import spacy

    try:
        parser = spacy.load(name)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"marking.parser={name} cannot be loaded ({reason(error)})") from error
    if "parser" not in parser.pipe_names:
        raise ConfigError(f"marking.parser={name} has no dependency parser, only {', '.join(parser.pipe_names)}")
    return parser


@functools.lru_cache(maxsize=1)
def _sentences(path: str, device: str) -> Any:
    from sentence_transformers import SentenceTransformer

    from pm.model.files import quiet_loading, resolve_folder

    quiet_loading()
    try:
        return SentenceTransformer(str(resolve_folder(path)), device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"marking.sentences={path} cannot be loaded ({reason(error)})") from error


def _is_installed(package: str) -> bool:
    """`spacy.util.is_package` without importing spaCy, which takes every worker more than a second."""
    try:
        metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True
