"""What each stage of pre-training must reach before the next one is paid for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pm.toon import captions
from pm.toon.attributes import ATTRIBUTES, IDENTITY_ATTRIBUTES
from pm.toon.corpus import HIDDEN, Corpus
from pm.toon.probe import Probe

# Stage → attribute → share that must be read rightly; "mean" is over the identity's attributes.
BARS: Mapping[str, Mapping[str, float]] = {
    "probe": dict.fromkeys(IDENTITY_ATTRIBUTES, 0.98),
    "vae": {"mean": 0.98, "eyebrows": 0.95},
    "words": {"mean": 0.94, "eyebrows": 0.80},
    "tokens": {"hair": 0.93, "eyebrows": 0.80},
}
_STEPS, _GUIDANCE, _BATCH = 25, 5.0, 32


def check(stage: str, accuracy: Mapping[str, float], *, stop: bool = True) -> dict[str, float]:
    """`accuracy` with its mean over the identity's attributes.

    Raises:
        SystemExit: with `stop`, when it is below a bar of the stage.
    """
    found = dict(accuracy) | {"mean": float(np.mean([accuracy[name] for name in IDENTITY_ATTRIBUTES]))}
    missed = [f"{name} {found[name]:.3f} < {bar}" for name, bar in BARS[stage].items() if found[name] < bar]
    print(stage, ", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    if missed and stop:
        raise SystemExit(f"gate {stage} failed: {', '.join(missed)}; train that stage longer, or add --no-gates")
    print(f"gate {stage}: {'failed: ' + ', '.join(missed) if missed else 'passed'}", flush=True)
    return found


def words(folder: Path, probe: Probe, corpus: Corpus, count: int = 128, seed: int = 0) -> dict[str, float]:
    """How many traits of `count` people the finished base draws from a full description in words, by attribute.

    Sampled by diffusers' own pipeline: 25 DDIM steps, guidance 5.
    """
    from diffusers import StableDiffusionXLPipeline

    pipeline: Any = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    each = len(corpus.people) // len(set(corpus.people))
    people, scenes = corpus.people[::each][:count], corpus.scenes[::each][:count]
    subjects = [f"a {p.class_word} with {captions.traits(p)}," for p in people]
    texts = [captions.describe(subject, view) for subject, view in zip(subjects, scenes, strict=True)]
    pictures = []
    for start in range(0, len(texts), _BATCH):
        part = texts[start : start + _BATCH]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        settings = {"num_inference_steps": _STEPS, "guidance_scale": _GUIDANCE, "output_type": "np"}
        pictures.append(pipeline(part, generator=generators, **settings).images)
    read = probe.read(np.rint(np.concatenate(pictures) * 255).astype(np.uint8))
    pairs = list(zip(read, people, strict=True))
    return {name: float(np.mean([r[name] == getattr(p, name) for r, p in pairs])) for name in IDENTITY_ATTRIBUTES}


def readable(
    features: Tensor, labels: Tensor, unseen: Tensor, unseen_labels: Tensor, steps: int = 1500
) -> dict[str, float]:
    """Accuracy of a linear classifier for each trait, fitted to features [n, d] of training people, on those of others.

    `labels` int64 [n, traits] in the order of `IDENTITY_ATTRIBUTES`; `HIDDEN` ones count nowhere.
    """
    mean, std = features.mean(0), features.std(0) + 1e-6
    features, unseen = (features - mean) / std, (unseen - mean) / std
    result = {}
    for i, (name, values) in enumerate(IDENTITY_ATTRIBUTES.items()):
        torch.manual_seed(0)
        head = nn.Linear(features.shape[1], len(values))
        optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=1e-2)
        for step in range(steps):
            rows = torch.randint(len(features), (512,), generator=torch.Generator().manual_seed(step))
            loss = nn.functional.cross_entropy(head(features[rows]), labels[rows, i], ignore_index=HIDDEN)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seen = unseen_labels[:, i] != HIDDEN
        with torch.no_grad():
            result[name] = float((head(unseen).argmax(-1) == unseen_labels[:, i])[seen].float().mean())
    return result


def identity_labels(corpus: Corpus) -> Tensor:
    """int64 [n, traits], as `readable` takes them."""
    places = [list(ATTRIBUTES).index(name) for name in IDENTITY_ATTRIBUTES]
    return torch.from_numpy(corpus.labels[:, places])
