"""The stages of the rehearsal. Each is the project's own code and checks what came out; `run` gives its facts."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fullsize import here
from benchmarks.fullsize.budget import ENGINES, EXPORTS
from benchmarks.fullsize.folder import write_folder
from benchmarks.fullsize.published import COUNTS, published
from benchmarks.fullsize.shapes import SIZES, Size

PROMPT, STEPS = "a man img in a red hoodie", 2
_PEOPLE, _PHOTOS = 2, 4


@dataclass(frozen=True)
class Place:
    """Where a rehearsal lives."""

    home: Path
    size: Size
    workers: int = 0  # of Ray in preprocessing and training; 0: this process alone

    @property
    def base(self) -> Path:
        return self.home / "base"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def photos(self) -> Path:
        return self.home / "photos"

    def run(self, name: str) -> Path:
        return self.home / "runs" / name

    @property
    def adapter(self) -> Path:
        return self.run("ddp") / "adapter.safetensors"


def names() -> list[str]:
    """All stages, in order."""
    train = [f"train/{engine}" for engine in ENGINES]
    return ["folder", "preprocess", *train, "resume", *(f"export/{kind}" for kind in EXPORTS), *_PORTRAITS]


def run(name: str, place: Place) -> dict[str, Any]:
    """Do a stage.

    Args:
        name: one of `names()`.
        place: where; the stages before it have been there.

    Returns:
        its facts, as JSON knows them.
    """
    kind, _, which = name.partition("/")
    if kind == "train":
        return _train(place, which)
    if kind == "export":
        return _export(place, which)
    known: Mapping[str, Callable[[Place], dict[str, Any]]] = {
        "folder": _folder,
        "preprocess": _preprocess,
        "resume": _resume,
        **_PORTRAITS,
    }
    return known[name](place)


def _folder(place: Place) -> dict[str, Any]:
    write_folder(place.base, place.size)
    size = sum(file.stat().st_size for file in place.base.rglob("*.safetensors"))
    return {"keys": sum(map(len, published().values())), "parts": list(COUNTS), "file_bytes": size}


def _preprocess(place: Place) -> dict[str, Any]:
    settings = here.preprocess_settings(place.photos, place.base, place.data, _PEOPLE, _PHOTOS, "bfloat16")
    if place.workers:
        from pm.config import from_mapping
        from pm.data.config import PreprocessConfig
        from pm.data.run.build import build

        kept = build(from_mapping(PreprocessConfig, settings)).meta["counts"]["kept"]
    else:
        kept = here.preprocess(settings)
    return {"photos": kept}


def _settings(place: Place, engine: str) -> dict[str, Any]:
    how = {"steps": STEPS, "batch_size": 1, "checkpoint_every": 1, "num_to_keep": 1, "precision": "bf16"}
    return here.train_settings(place.data, place.base, engine, **how)


def _train(place: Place, engine: str, run: str | None = None) -> dict[str, Any]:
    settings, run_dir = _settings(place, engine), place.run(run or engine)
    if place.workers:
        from pm.config import from_mapping
        from pm.ray_env import ray_init
        from pm.train.run.config import RunConfig
        from pm.train.run.launch import launch

        settings["workers"] |= {"num": place.workers, "use_gpu": False}
        settings["train"]["batch_size"] = place.workers
        ray_init(address="local")
        launch(from_mapping(RunConfig, settings), run_dir, {})
    else:
        here.train(settings, run_dir)
    losses = here.last_loss(run_dir)
    _check([step for step, _ in losses] == list(range(1, STEPS + 1)), f"{run_dir} has the steps {losses}")
    return {"losses": [loss for _, loss in losses], "adapter_bytes": (run_dir / "adapter.safetensors").stat().st_size}


def _resume(place: Place) -> dict[str, Any]:
    """Kill a training once its first checkpoint is whole, and resume it: it must end as the undisturbed one did."""
    from pm.train.checkpoint import newest_complete

    run_dir = place.run("killed")
    if newest_complete(run_dir / "checkpoints") is None:
        arguments = ["--size", place.size.name, "--output", str(place.home), "--workers", str(place.workers)]
        command = [sys.executable, "-m", "benchmarks.rehearsal", *arguments, "--only", "killed"]
        child = subprocess.Popen(command, cwd=here.ROOT, process_group=0)
        try:
            while newest_complete(run_dir / "checkpoints") is None:
                _check(child.poll() is None, "the training ended before it could be killed")
                time.sleep(0.005)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    before = newest_complete(run_dir / "checkpoints")
    facts = _train(place, "ddp", "killed")
    undisturbed = [loss for _, loss in here.last_loss(place.run("ddp"))]
    _check(facts["losses"] == undisturbed, f"resumed: {facts['losses']}, undisturbed: {undisturbed}")
    return facts | {"resumed_from": before.name if before else None, "equal": True}


def killed(place: Place) -> None:
    """What `resume` kills. It goes on long enough to be hit, and never ends well: the resumed run does."""
    _train(place, "ddp", "killed")


def _export(place: Place, kind: str) -> dict[str, Any]:
    from pm.config import from_mapping
    from pm.train.config import ExportConfig
    from pm.train.export import export

    target = place.home / "exported" / kind / "adapter"
    values = here.read("export") | {"checkpoint": str(place.run("ddp")), "format": kind, "output": str(target)}
    if kind in ("native", "published"):
        values["output"] = f"{target}{'.safetensors' if kind == 'native' else '.bin'}"
    written = export(from_mapping(ExportConfig, values))
    files = [written] if written.is_file() else [file for file in written.rglob("*") if file.is_file()]
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def _composed(command: str, place: Place, **values: Any) -> dict[str, Any]:
    from serving.compose import composed

    given = {"base": "sdxl", "sampler": "sdxl"} | {"base.path": place.base, "sampler.steps": STEPS}
    given |= {"base.vision_path": place.base / "image_encoder"} | values
    return composed(command, [f"{key}={value}" for key, value in given.items()])


def _first_photos(place: Place) -> list[Path]:
    person = min(path for path in place.photos.iterdir() if path.is_dir())
    return sorted(person.glob("*.png"))[:2]


def _generate(place: Place) -> dict[str, Any]:
    from PIL import Image

    from pm.config import from_mapping
    from pm.sample.config import GenerateConfig
    from pm.sample.run import generate

    output = place.home / "generated"
    photos = ",".join(map(str, _first_photos(place)))
    given = {"adapter": place.adapter, "id_images": f"[{photos}]", "images": 1, "output": output, "dtype": "bfloat16"}
    cfg = _composed("generate", place, **given, preprocess="none", device="cpu")
    generate(from_mapping(GenerateConfig, cfg | {"prompt": PROMPT}))
    picture = Image.open(output / "0000.png")
    _check(picture.size == (place.size.resolution,) * 2, f"{output}/0000.png is {picture.size}")
    return {"picture": list(picture.size), "steps": STEPS}


def _serve(place: Place) -> dict[str, Any]:
    """The application around an engine in this process, and one request."""
    import httpx
    from PIL import Image

    from serving.config import load
    from serving.engine.backend import LocalBackend
    from serving.engine.core import Engine
    from serving.http.quota import LocalQuotas
    from serving.http.routes import create_app
    from serving.http.service import Service
    from serving.metrics import MemoryRecorder

    given = {"service": "sdxl", "base.path": place.base, "base.vision_path": place.base / "image_encoder"}
    given |= {"adapters.photomaker": place.adapter, "engine.device": "cpu", "sampler.steps": STEPS}
    given |= {"limits.request_s": 3600, "preprocess": "none", "protect": "usual"}
    config = load([f"{key}={value}" for key, value in given.items()])
    engine, recorder = Engine(config, MemoryRecorder()), MemoryRecorder()
    quotas = LocalQuotas(config.limits.request_s, config.limits.retry_after_s)
    app = create_app(Service(config, LocalBackend(engine), recorder, quotas, None))

    async def ask() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://rehearsal", timeout=3600) as client:
            files = [("image[]", (p.name, p.read_bytes(), "image/png")) for p in _first_photos(place)]
            start = time.monotonic()
            answer = await client.post("/v1/images/edits", data={"prompt": PROMPT, "seed": "1"}, files=files)
            return answer, time.monotonic() - start

    try:
        answer, seconds = asyncio.run(ask())
    finally:
        engine.stop()
    _check(answer.status_code == 200, f"{answer.status_code}: {answer.text[:300]}")
    import base64

    picture = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    _check(picture.size == (place.size.resolution,) * 2, f"the answer is of {picture.size}")
    return {"status": answer.status_code, "request_seconds": seconds, "picture": list(picture.size)}


def _evaluate(place: Place) -> dict[str, Any]:
    from pm.config import from_mapping
    from pm.evaluate.config import EvaluateConfig
    from pm.evaluate.run import evaluate

    output = place.home / "evaluated"
    small = {"protocol.identities": 1, "protocol.prompts": 1, "protocol.images": 1, "protocol.references": "[1]"}
    small |= {"adapters": f"[{place.adapter}]", "methods": "[]", "metrics": "[identity,prompt]", "tracker": "none"}
    small |= {"output": output, "device": "cpu", "dtype": "bfloat16", "workers.num": 0, "blind_pairs": 0}
    evaluate(from_mapping(EvaluateConfig, _composed("evaluate", place, **small)))
    report = json.loads((output / "report.json").read_text())
    return {"report": sorted(report)}


_PORTRAITS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "generate": _generate,
    "serve": _serve,
    "evaluate": _evaluate,
}


def _check(fine: bool, what: str) -> None:
    if not fine:
        raise SystemExit(f"rehearsal: {what}")


def place_of(size: str, output: str, workers: int) -> Place:
    """From the command line."""
    return Place(Path(output).absolute(), SIZES[size], workers)
