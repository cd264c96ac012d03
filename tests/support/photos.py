"""Photos with annotations, and a small dataset that needs neither a base nor Ray."""

import base64
import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pm.data.config import FeaturesConfig, SamplesConfig
from pm.data.dataset.output import open_output
from pm.data.dataset.writer import finish, write_shard
from pm.data.records import SCHEMA_VERSION, Face, Photo
from pm.data.source.choice import SourceChoice
from pm.data.source.folder import Folder
from pm.data.source.listing import Listing
from pm.data.stages.ingest import ingest
from pm.photo.pixels import encode_png

LATENT, TEXT, POOLED, VISION = (4, 8, 8), (7, 10), 6, 32
SAMPLES = SamplesConfig(min_references=1, max_references=4, null_text=0.1, masked_loss=0.5)


def source(root: Path | str, min_side: int = 8, kind: type[SourceChoice] = Folder, **changes) -> SourceChoice:
    """A folder of photos; nothing but its least side is asked of them."""
    limits = {"name": "folder", "min_side": min_side, "max_pixels": 10**8, "max_bytes": 10**8}
    unset = dict.fromkeys(("near_duplicate", "licence", "provenance"))
    return kind(root=str(root), **limits | unset | changes)


def found(root: Path | str, **changes) -> list[Photo]:
    """What a listing of the folder gives."""
    with Listing(source(root, **changes)) as listing:
        return list(listing.photos())


def ingested(root: Path | str, min_side: int = 8, **changes) -> list[Photo]:
    """All photos of the folder after the first stage."""
    return ingest(found(root, **changes), root, source(root, min_side, **changes))


def write_photo(path: Path, seed: int, *, size: int = 64, face: tuple | None = (20, 16, 44, 46), sidecar: bool = True):
    """A head and shoulders in colours of `seed`, with the annotations that toon photos have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    colours = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2)]
    image, mask = Image.new("RGB", (size, size), colours[0]), Image.new("L", (size, size))
    for picture, ink in ((image, colours[1]), (mask, 255)):
        draw = ImageDraw.Draw(picture)
        draw.ellipse((20, 16, 44, 46), fill=ink)
        draw.rectangle((14, 46, 50, size), fill=ink)
    image.save(path)
    if sidecar:
        faces = [{"box": list(face), "landmarks": [[26, 28], [38, 28]], "score": 0.9}] if face else []
        png = base64.b64encode(encode_png(np.asarray(mask))).decode()
        content = {"caption": "a man in a red hat", "class_word": "man", "faces": faces, "mask_png": png}
        path.with_suffix(".json").write_text(json.dumps(content))


def kept_photo(identity: str, number: int, shard: int) -> Photo:
    """A photo that passed all stages, with random features."""
    rng = np.random.default_rng([ord(identity[-1]), number])

    def half(*shape: int) -> bytes:
        return rng.standard_normal(shape).astype(np.float16).tobytes()

    mask = np.zeros((32, 32), np.uint8)
    mask[8:, 8:24] = 255
    return Photo(
        identity=identity,
        photo=f"{identity}/{number}.png",
        shard=shard,
        sha256=f"{rng.integers(2**60):x}".ljust(64, "0"),
        width=64,
        height=64,
        faces=(Face((20.0, 16.0, 44.0, 46.0), (26.0, 28.0), 1.0, ()),),
        crop_box=(0.0, 0.0, 64.0, 64.0),
        mask=encode_png(mask),
        caption=f"a man, photo {number}",
        class_word="man",
        class_index=2,
        id_crop=encode_png(rng.integers(0, 256, (VISION, VISION, 3), dtype=np.uint8)),
        vae_mean=half(*LATENT),
        vae_logvar=half(*LATENT),
        text_embeds=half(*TEXT),
        pooled=half(POOLED),
        time_ids=(64.0, 64.0, 0.0, 0.0, 32.0, 32.0),
    )


def write_dataset(path: Path, photos_of: dict[str, int], *, fingerprint: str = "base", rejected: int = 0) -> Path:
    """A finished dataset, one shard for each person; with some rejected photos of the first one."""
    open_output(path, {"base": fingerprint}, overwrite=False)
    for shard, (identity, count) in enumerate(photos_of.items()):
        photos = [kept_photo(identity, number, shard) for number in range(count)]
        extra = [dataclasses.replace(kept_photo(identity, 90 + i, shard)) for i in range(rejected if shard == 0 else 0)]
        write_shard([*photos, *(p.rejected("faces", "no_face", 0, 1) for p in extra)], path)
    meta = {
        "schema_version": SCHEMA_VERSION,
        "base": {"path": "there", "fingerprint": fingerprint},
        "latent_shape": LATENT,
        "text_shape": TEXT,
        "settings": {"base": fingerprint},
    }
    finish(path, ("ingest", "faces"), meta)
    return path


def photo_of(crop: np.ndarray, face=(20.0, 20.0, 40.0, 40.0)) -> Photo:
    side = float(crop.shape[0])
    faces = (Face(face, (), 1.0, ()),)
    return Photo("a", "a/0.png", width=64, height=64, faces=faces, crop_box=(0, 0, side, side), crop=encode_png(crop))


PLAIN = FeaturesConfig(storage="float16", face_embeddings=False, repeat=0, noise_fills=0, train_layers=1)
