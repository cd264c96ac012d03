"""Pictures, trials and models for the tests of metrics."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from pm.evaluate.metrics.base import Pictures
from pm.methods.trial import Photo, Trial

PROMPTS = ("a photo of {person} in a red hat", "{person} standing on a street")


def pattern(seed: int, height: int = 96, width: int = 80) -> np.ndarray:
    """A picture by formula, the same everywhere: waves in three colours, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width] / 80.0
    waves = [np.sin((seed + 2) * (c + 1) * x + (3 - c) * (seed + 1) * y**2 + c) for c in range(3)]
    return np.round(127.5 + 127 * np.stack(waves, -1)).astype(np.uint8)


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def trial_of(references, held_out=(), *, person="anna", template=PROMPTS[0], word="woman", images=1) -> Trial:
    photos = [tuple(Photo(image, None) for image in group) for group in (references, held_out)]
    return Trial(person, word, template, *photos, seeds=tuple(range(images)))


def values_of(metric, references, images, held_out=()) -> list[float]:
    """Of one trial."""
    (measured,) = metric.measure([Pictures(trial_of(references, held_out), images)])
    return list(measured.values)


def some_batch() -> list[Pictures]:
    """Trials of two people with pictures of several sizes, one of them grey."""
    grey = np.ascontiguousarray(pattern(9)[..., 0])
    first = trial_of([pattern(1), pattern(2, 64, 120)], [pattern(3)], images=3)
    second = trial_of([pattern(4, 200, 100)], [pattern(5)], person="ben", template=PROMPTS[1], word="man", images=2)
    return [Pictures(first, [pattern(6), pattern(7, 120, 64), grey]), Pictures(second, [pattern(8), pattern(1)])]


def made_up(module: torch.nn.Module) -> torch.nn.Module:
    """Fill a network with numbers that depend on nothing but their place, of a size that keeps its layers alive."""
    state = {}
    for number, (name, value) in enumerate(module.state_dict().items()):
        bits = np.arange(value.numel(), dtype=np.uint64) * np.uint64(2654435761) + np.uint64(number * 40503)
        bits ^= (bits & np.uint64(0xFFFFFFFF)) >> np.uint64(15)
        bits = (bits * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
        spread = torch.from_numpy(bits / 2.0**31 - 1).float().view(value.shape)  # -1..1
        if name.endswith("running_var"):
            state[name] = 1 + 0.5 * spread
        elif value.ndim > 1:
            state[name] = spread * (6 / value[0].numel()) ** 0.5
        else:
            state[name] = 1 + 0.1 * spread if name.endswith("weight") else 0.1 * spread
        if not value.is_floating_point():
            state[name] = value
    module.load_state_dict(state)
    return module.eval()


def write_clip(folder: Path, **sizes) -> Path:
    """A CLIP of the real classes, with its processor, a few thousand random weights."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from support.tiny_models import write_tokenizer

    torch.manual_seed(0)
    tokenizer = write_tokenizer(folder)
    same = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    same["projection_dim"] = 16
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = same | tokens | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "pad_token_id": 0}
    vision = same | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


def write_vit(folder: Path, pickled: bool = False) -> Path:
    """A ViT of the real classes; pickled: as old models on the Hub are, without safetensors."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False)
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def write_measures(folder: Path) -> dict[str, str]:
    """Models of the metrics that fetch theirs from the Hub: random weights in the real classes, and of the real size
    where there is one size only. By metric the setting that names them, as it is typed."""
    from pm.evaluate.models.backbones import Backbone
    from pm.evaluate.models.inception import Inception

    folder.mkdir(parents=True)
    clip, vit = write_clip(folder / "clip"), write_vit(folder / "vit")
    torch.manual_seed(0)
    torch.save(Inception().state_dict(), folder / "inception.pth")
    torch.save(Backbone("squeeze").state_dict(), folder / "squeeze.pth")
    return {
        "clip_t": f"path: {clip}",
        "clip_i": f"path: {clip}",
        "dino": f"path: {vit}",
        "aesthetic": f"path: {write_aesthetic(folder / 'aesthetic', clip, predictor=torch.nn.Linear(16, 1))}",
        "fid": f"path: {folder}/inception.pth",
        "face_diversity": f"net: squeeze, path: {folder}/squeeze.pth",
    }


def write_aesthetic(folder: Path, clip: Path, **layers: torch.nn.Linear) -> Path:
    """A predictor of the aesthetic score: the vision tower of a CLIP, and a head's layers by name."""
    from safetensors.torch import load_file, save_file
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPVisionModelWithProjection

    both = CLIPModel.from_pretrained(clip)
    tower = CLIPVisionModelWithProjection(both.config.vision_config)
    tower.vision_model.load_state_dict(both.vision_model.state_dict())
    tower.visual_projection.load_state_dict(both.visual_projection.state_dict())
    tower.save_pretrained(folder)
    CLIPImageProcessorPil.from_pretrained(clip).save_pretrained(folder)
    head = {f"{k}.{part}": v for k, layer in layers.items() for part, v in layer.state_dict().items()}
    save_file(load_file(folder / "model.safetensors") | head, folder / "model.safetensors")
    return folder
