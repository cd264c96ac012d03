"""Real Ray Train workers, gloo and DeepSpeed: two CPU workers on the tiny base."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from unit.train.support import run_config, write_dataset  # noqa: E402

from pm.errors import CheckpointError, ConfigError, DataError  # noqa: E402
from pm.model.adapter import load_adapter  # noqa: E402
from pm.train.callbacks import read_metrics  # noqa: E402
from pm.train.config import ENGINES  # noqa: E402
from pm.train.launch import launch, plan_workers  # noqa: E402

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def dataset(tiny_base, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", tiny_base, people=6, photos=4)


def losses(run_dir):
    return [line["loss"] for line in read_metrics(run_dir / "metrics.jsonl")]


def test_interrupted_equals_uninterrupted_under_zero2(ray_session, dataset, tiny_base, tmp_path, capsys):
    settings = {"engine__name": "zero2", "train__ema_decay": 0.9, "train__num_to_keep": 1}
    straight = run_config(dataset, tiny_base, train__validate_every=6, **settings)
    launch(straight, tmp_path / "straight", {})
    launch(run_config(dataset, tiny_base, train__steps=3, **settings), tmp_path / "cut", {})
    saved = tmp_path / "cut/checkpoints/checkpoint_manager_snapshot.json"
    saved.write_text(saved.read_text()[:20])  # killed while Ray wrote its list
    adapter = launch(run_config(dataset, tiny_base, **settings), tmp_path / "cut", {})

    assert losses(tmp_path / "cut") == losses(tmp_path / "straight")
    one, other = load_file(adapter), load_file(tmp_path / "straight/adapter.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    state, meta = load_adapter(adapter)
    assert meta.compose == "stacked" and meta.extra == {"step": 6, "run": "test"}
    assert any(v.abs().max() > 0 for k, v in state.items() if k.endswith("lora_B.weight"))  # it learnt something
    assert [f.name for f in (tmp_path / "straight/checkpoints").glob("step-*")] == ["step-00000006"]
    assert (tmp_path / "straight/validation/step-00000006.png").exists()
    assert (tmp_path / "straight/config.yaml").exists() and not list(tmp_path.glob("*/.progress.json"))

    capsys.readouterr()
    launch(straight, tmp_path / "straight", {})
    assert "already finished (6 steps)" in capsys.readouterr().out


def test_engines_agree(ray_session, dataset, tiny_base, tmp_path):
    """Same losses and adapters from every engine; a run that starts under ZeRO-3 goes on under ZeRO-1."""
    import ray.train
    from ray.train.torch import TorchTrainer

    base = {"train__batch_size": 8, "train__micro_batch_size": 2, "train__ema_decay": 0.9, "train__steps": 4}
    runs = {name: run_config(dataset, tiny_base, engine__name=name, **base) for name in ENGINES}
    first = run_config(dataset, tiny_base, engine__name="zero3", **base | {"train__steps": 2})

    def train(job):
        import torch.distributed as dist

        from pm.train.launch import RayContext
        from pm.train.worker import run_worker

        class Context(RayContext):
            """Checkpoints are copied by hand: one Ray run holds several of ours here."""

            def report(self, step, metrics, folder):
                target = self.run_dir / "checkpoints" / f"step-{step:08d}"
                target.mkdir(parents=True, exist_ok=True)
                for file in folder.iterdir():
                    shutil.copy(file, target)
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
    expected = load_file(tmp_path / "ddp/adapter.safetensors")
    for name in ("zero1", "zero2", "zero3", "moved"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "ddp"), rel=1e-5), name
        adapter = load_file(tmp_path / name / "adapter.safetensors")
        assert adapter.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(adapter[key], value, rtol=1e-3, atol=2e-4, msg=f"{name}: {key}")
    assert len(losses(tmp_path / "ddp")) == 4


def test_a_users_error_in_a_worker_is_raised_as_itself(ray_session, dataset, tiny_base, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(dataset, damaged)
    part = damaged / "part-00000.parquet"
    part.write_bytes(b"PAR1" + bytes(part.stat().st_size - 8) + b"PAR1")
    with pytest.raises((DataError, CheckpointError), match="part-00000.parquet"):
        launch(run_config(damaged, tiny_base), tmp_path / "run", {})


def test_what_cannot_work_is_said_before_any_worker_starts(ray_session, dataset, tiny_base, tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist; run pipelines/preprocess.py first"):
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
