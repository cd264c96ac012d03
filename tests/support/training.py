"""Small real things to train on: a dataset in the published format, run settings, a model of one layer."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image
from torch import nn

from pm.config import from_mapping
from pm.data.loading.batches import Batch
from pm.data.records import DATASET_SCHEMA, INDEX_SCHEMA, SCHEMA_VERSION
from pm.model.base import load_base
from pm.model.prompt import class_token_index, mark
from pm.train.config import TrainConfig
from pm.train.run.config import RunConfig

ROOT = Path(__file__).resolve().parents[2]


def settings(dataset, base, **over) -> dict:
    """The values of conf/train.yaml for the tiny base; dotted keys of `over` win."""
    values = yaml.safe_load((ROOT / "conf/train.yaml").read_text())
    read = lambda name: yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())  # noqa: E731
    result = {key: values[key] for key in ("seed", "init", "profile", "train", "validation", "workers")}
    result |= {"name": "test", "dataset": str(dataset), "tracker": read("tracker/none")}
    result["base"] = {"path": str(base), "vision_path": str(Path(base) / "image_encoder")}
    result["adapter"] = read("model/toon") | {"compose": read("compose/stacked"), "merge": "insert"}
    result["adapter"] |= {"lora_rank": 4, "train_layers": 1}
    result["engine"] = read("engine/ddp")
    result["validation"] |= {"sampler": read("sampler/toon") | {"steps": 3}, "identities": 2, "references": 2}
    result["train"]["objective"] = read("objective/diffusion")
    result["train"]["loss_weights"] = read("loss_weights/uniform")
    result["train"] |= {"steps": 6, "batch_size": 4, "log_every": 1, "warmup_steps": 2, "lr_lora": 1e-2}
    result["train"] |= {"lr_id_encoder": 1e-2, "validate_every": None, "checkpoint_every": 3}
    for key, value in over.items():
        *parents, last = key.split("__")
        node = result
        for parent in parents:
            node = node[parent]
        node[last] = value
    return result


def run_config(dataset, base, **over) -> RunConfig:
    return from_mapping(RunConfig, settings(dataset, base, **over))


def train_config(**over) -> TrainConfig:
    values = settings("none", "none")["train"] | over
    return from_mapping(TrainConfig, values, "train")


def write_dataset(path: Path, base_path: Path, people: int, photos: int, face_width: int = 0) -> Path:
    """Random pixels, latents and text features in the format that preprocess writes; and face embeddings, if wanted."""
    base = load_base(base_path, ())
    rng, faces = np.random.default_rng(0), np.random.default_rng(1)
    path.mkdir(parents=True, exist_ok=True)
    latent = (base.latent_channels, base.latent_size, base.latent_size)
    text = (base.max_tokens, base.text_width)
    rows, side = [], base.resolution
    for i in range(people * photos):
        caption = "a photo of a man wearing a red hoodie"
        half = lambda *shape: rng.normal(size=shape).astype(np.float16).tobytes()  # noqa: E731
        mask = np.zeros((side, side), dtype=np.uint8)
        mask[side // 4 :, side // 4 : -side // 4] = 255
        rows.append(
            {
                "identity": f"person{i // photos}",
                "photo": f"person{i // photos}/{i % photos}.png",
                "sha256": "0" * 64,
                "class_word": "man",
                "caption": caption,
                "class_index": class_token_index(base.tokenizers[0], mark(caption, "man")),
                "face_box": [8.0, 8.0, 24.0, 24.0],
                "landmarks": [],
                "crop_box": [0.0, 0.0, side, side],
                "mask": _png(mask),
                "id_crop": _png(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)),
                "vae_mean": half(*latent),
                "vae_logvar": (rng.normal(size=latent) - 4).astype(np.float16).tobytes(),
                "text_embeds": half(*text),
                "pooled": half(base.pooled_width),
                "time_ids": base.family.time_ids((side, side), (0, 0), (side, side)),
                "face_embedding": faces.normal(size=face_width).tolist(),
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, schema=DATASET_SCHEMA), path / "part-00000.parquet", row_group_size=8)
    index = [
        {
            "identity": r["identity"],
            "photo": r["photo"],
            "file": "part-00000.parquet",
            "row_group": i // 8,
            "row": i % 8,
        }
        for i, r in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(index, schema=INDEX_SCHEMA), path / "index.parquet")
    meta = {
        "schema_version": SCHEMA_VERSION,
        "base": {"path": str(base_path), "fingerprint": base.fingerprint},
        "latent_shape": latent,
        "text_shape": text,
        "resolution": side,
    }
    if face_width:
        meta |= {"features": {"face_embeddings": True}, "settings": {"embedder": {"name": "probe"}}}
    (path / "dataset.json").write_text(json.dumps(meta))
    return path


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def random_batch(size: int, seed: int = 0, shape: tuple[int, int, int] = (2, 4, 4)) -> Batch:
    """Latents, masks and seeds; text and references are empty."""
    g = torch.Generator().manual_seed(seed)
    empty = torch.zeros(size, 0)
    return Batch(
        mean=torch.randn(size, *shape, generator=g),
        logvar=torch.randn(size, *shape, generator=g) - 4,
        mask=(torch.rand(size, 1, *shape[1:], generator=g) > 0.5).float(),
        embeds=empty,
        pooled=empty,
        time_ids=empty,
        class_index=torch.zeros(size, dtype=torch.long),
        captions=[""] * size,
        class_words=[""] * size,
        id_pixels=empty,
        id_counts=torch.ones(size, dtype=torch.long),
        drop_text=torch.zeros(size, dtype=torch.bool),
        use_mask=torch.rand(size, generator=g) > 0.5,
        seeds=torch.randint(0, 2**62, (size,), generator=g),
    )


def rows(batch: Batch, which) -> Batch:
    """Some rows of a `random_batch`."""
    which, lists, whole = (
        list(which),
        ("captions", "class_words"),
        ("repeated", "face_embeds", "photos", "words", "draws"),
    )
    values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    chosen = {k: [v[i] for i in which] if k in lists else v[which] for k, v in values.items() if k not in whole}
    return Batch(**chosen, **{k: values[k] for k in whole})


class TinyModel(nn.Module):
    """Stands for PhotoMaker: a trained layer over a frozen one, called the same way."""

    def __init__(self, channels: int = 2):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Conv2d(channels, 4, 3, padding=1).requires_grad_(False)
        self.trained = nn.Conv2d(4, channels, 3, padding=1)

    def forward(self, noisy, timesteps, batch):
        return self.trained(self.frozen(noisy) + timesteps.view(-1, 1, 1, 1) / 1000)

    def parameter_groups(self):
        return {"lora": [self.trained.weight], "id_encoder": [self.trained.bias]}
