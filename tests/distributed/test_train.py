"""Real Ray Train workers, gloo and DeepSpeed: two CPU workers on the tiny base."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.training import run_config, write_dataset  # noqa: E402

from pm.data.dataset.reader import IdentityDataset  # noqa: E402
from pm.data.loading.loader import Loader  # noqa: E402
from pm.errors import CheckpointError, ConfigError, DataError  # noqa: E402
from pm.model.base import load_base  # noqa: E402
from pm.model.photomaker import PhotoMaker  # noqa: E402
from pm.train.callbacks.metrics import read_metrics  # noqa: E402
from pm.train.checkpoint import read_checkpoint  # noqa: E402
from pm.train.diffusion import noise_schedule  # noqa: E402
from pm.train.export import ExportConfig, export  # noqa: E402
from pm.train.losses.uniform import Uniform  # noqa: E402
from pm.train.run.launch import launch  # noqa: E402
from pm.train.run.plan import plan_workers  # noqa: E402
from pm.train.run.workers import samples_config  # noqa: E402
from pm.train.step import Precision, TrainStep  # noqa: E402

ENGINES = ("ddp", "zero1", "zero2", "zero3", "zero3_offload")  # files of conf/engine/
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def dataset(tiny_base, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", tiny_base, people=6, photos=4)


def losses(run_dir):
    return [line["loss"] for line in read_metrics(run_dir / "metrics.jsonl")]


def picture(path):
    return torch.from_numpy(np.asarray(Image.open(path)).astype("int16"))


def engine(name):
    return yaml.safe_load((ROOT / f"conf/engine/{name}.yaml").read_text())


def plain_loop(config):
    """The training as a plain loop in one process: losses, and the moving average of the weights by name."""
    base = load_base(config.base.path, ("unet",), vision_path=config.base.vision_path, dtype=torch.float32)
    torch.manual_seed(config.seed)
    model = PhotoMaker(base, config.adapter).train()
    step = TrainStep(
        model, noise_schedule(base.scheduler_config), base.scaling_factor, Precision(torch.float32), Uniform("uniform")
    )
    groups, train = model.parameter_groups(), config.train
    rates = {"lora": train.lr_lora, "id_encoder": train.lr_id_encoder}
    optimizer = torch.optim.AdamW(
        [{"params": groups[name], "lr": rate, "base": rate} for name, rate in rates.items()],
        betas=train.betas,
        weight_decay=train.weight_decay,
    )
    trained = {name: p for name, p in step.named_parameters() if p.requires_grad}
    average = {name: p.detach().clone() for name, p in trained.items()}
    loader = Loader(IdentityDataset(config.dataset, samples_config(train)), train.batch_size, seed=config.seed)
    found = []
    for i in range(train.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * min(1, (i + 1) / train.warmup_steps)
        loss = step(next(loader)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        decay = min(train.ema_decay, (2 + i) / (11 + i))
        for name, value in average.items():
            value.mul_(decay).add_(trained[name].detach(), alpha=1 - decay)
        found.append(loss.item())
    loader.close()
    return found, average


def test_engines_agree(ray_session, dataset, tiny_base, tmp_path):
    """Losses and adapters of every engine are those of a plain loop; ZeRO-3's checkpoint resumes under ZeRO-1."""
    import ray.train
    from ray.train.torch import TorchTrainer

    base = {"train__batch_size": 8, "train__micro_batch_size": 2, "train__ema_decay": 0.9, "train__steps": 3}
    runs = {name: run_config(dataset, tiny_base, engine=engine(name), **base) for name in ENGINES}
    first = run_config(dataset, tiny_base, engine=engine("zero3"), **base | {"train__steps": 2})
    # On a base as tiny as this nothing is partitioned otherwise.
    partitioned = {"zero_optimization": {"stage3_param_persistence_threshold": 600}}
    pictures = base | {"train__validate_every": 2}
    runs["ddp"] = run_config(dataset, tiny_base, engine=engine("ddp"), **pictures)
    runs["zero3"] = run_config(dataset, tiny_base, engine=engine("zero3") | {"deepspeed": partitioned}, **pictures)
    offload = engine("zero3_offload")
    offload["deepspeed"]["zero_optimization"] |= partitioned["zero_optimization"]
    small = base | {"adapter__gradient_checkpointing": True}
    runs["zero3_offload"] = run_config(dataset, tiny_base, engine=offload, **small)

    def train(job):
        import torch.distributed as dist

        from pm.train.run.launch import RayContext
        from pm.train.run.workers import run_worker

        class Context(RayContext):
            """Checkpoints are written by hand: one Ray run holds several of ours here."""

            def report(self, step, metrics, write):
                target = self.run_dir / "checkpoints" / f"step-{step:08d}"
                target.mkdir(parents=True, exist_ok=True)
                write(target)
                dist.barrier()

        for name, config in job["runs"]:
            run_worker(config, Context(job["root"] / name), {})

    order = [*runs.items(), ("moved", first), ("moved", runs["zero1"])]
    TorchTrainer(
        train,
        train_loop_config={"runs": order, "root": tmp_path},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(
            storage_path=str(tmp_path), name="ray", worker_runtime_env={"env_vars": {"DS_ACCELERATOR": "cpu"}}
        ),
    ).fit()
    expected_losses, average = plain_loop(runs["ddp"])
    expected = load_file(tmp_path / "ddp/adapter.safetensors")
    for name in (*ENGINES, "moved"):
        assert losses(tmp_path / name) == pytest.approx(expected_losses, rel=1e-5), name
        adapter = load_file(tmp_path / name / "adapter.safetensors")
        assert adapter.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(adapter[key], value, rtol=1e-3, atol=2e-4, msg=f"{name}: {key}")
        folder = tmp_path / name / "checkpoints/step-00000003"
        saved = read_checkpoint(folder)
        assert saved.ema.keys() == average.keys()
        for key, value in average.items():
            torch.testing.assert_close(saved.ema[key], value, rtol=1e-3, atol=2e-4, msg=f"{name}: {key}")
        tensors = [saved.engine.weights, *saved.engine.moments.values(), saved.ema]
        needed = sum(value.nbytes for values in tensors for value in values.values())
        random = sum(file.stat().st_size for file in folder.glob("rank-*"))  # 10 KB a worker, much for a base as tiny
        assert sum(file.stat().st_size for file in folder.iterdir()) - random <= 1.1 * needed
        exported = export(
            ExportConfig(str(folder), "newest", "native", str(tmp_path / f"{name}.safetensors"), None, None, ())
        )
        again = load_file(exported)
        assert again.keys() == adapter.keys() and all(torch.equal(again[key], adapter[key]) for key in adapter), name
    for step in (2, 3):  # training continues after the first
        grids = [picture(tmp_path / name / f"validation/step-{step:08d}.png") for name in ("ddp", "zero3")]
        torch.testing.assert_close(*grids, rtol=0, atol=2)


def test_what_cannot_work_is_said_before_any_worker_starts(ray_session, dataset, tiny_base, tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist; make it with photomaker preprocess"):
        launch(run_config(tmp_path / "nowhere", tiny_base), tmp_path / "run", {})
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    meta = json.loads((other / "dataset.json").read_text())
    meta["base"]["fingerprint"] = "0123456789abcdef"
    (other / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="was made for base"):
        launch(run_config(other, tiny_base), tmp_path / "run", {})
    with pytest.raises(ConfigError, match="not divisible by 2 workers x 3 samples"):
        launch(run_config(dataset, tiny_base, train__micro_batch_size=3), tmp_path / "run", {})
    with pytest.raises(CheckpointError, match="not a folder"):
        launch(run_config(dataset, "./no/base"), tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


def test_workers_are_planned_from_what_ray_has(ray_session, dataset, tiny_base):
    workers = run_config(dataset, tiny_base).workers
    assert plan_workers(workers) == (
        2,
        {"num_workers": 2, "use_gpu": False, "resources_per_worker": {"CPU": 2}},
    )
    with pytest.raises(ConfigError, match="needs 9 CPUs, Ray has 4"):
        plan_workers(dataclasses.replace(workers, num=9, cpus_per_worker=1))
    with pytest.raises(ConfigError, match="needs 1 GPUs, Ray has 0; set workers.use_gpu=false"):
        plan_workers(dataclasses.replace(workers, num=1, use_gpu=True))
