"""Settings of preprocessing."""

from pm.model.base_sizes import BaseSizes

SIMILARITY = {"name": "similarity", "threshold": 5, "spread": "robust", "rounds": 4, "common_person": True}

DLIB = {"name": "dlib", "min_spread": 0.1, "max_distance": None}

SIZES = BaseSizes("f00", 32, (4, 8, 8), (77, 80), 32)


def settings(**changes) -> dict:
    base = {
        "dataset": {
            "name": "folder",
            "root": "photos",
            "min_side": 32,
            "max_pixels": 10**8,
            "max_bytes": 10**8,
            "near_duplicate": None,
            "licence": None,
            "provenance": None,
        },
        "base": {"path": "base", "vision_path": "vision"},
        "output": "out",
        "overwrite": False,
        "face": {"name": "sidecar", "min_size": 8},
        "embedder": "none",
        "verify": {"name": "none"},
        "min_photos": 2,
        "consent": "noted",
        "purpose": "training",
        "crop": {"face_share": 0.1, "working_side": 512, "max_upscale": 2},
        "mask": {"name": "sidecar", "min_overlap": 0.3, "max_share": 1.0},
        "caption": {"name": "sidecar"},
        "marking": {"name": "simple"},
        "features": {"storage": "float16", "face_embeddings": False, "repeat": 0, "noise_fills": 0, "train_layers": 1},
        "dtype": "float32",
        "workers": {
            "download": 1,
            "faces": None,
            "masks": None,
            "captions": None,
            "precompute": None,
            "actor_cpus": 0.3,
            "task_cpus": 0.25,
            "gpus": None,
            "batch_size": 16,
            "shard_photos": 128,
        },
    }
    return {**base, **changes}
