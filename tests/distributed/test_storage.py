"""A run that lives in S3: a real server on the loopback, nothing of the run but its copy in a folder."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.training import run_config  # noqa: E402

from pm.errors import ConfigError  # noqa: E402
from pm.train.callbacks.metrics import read_metrics  # noqa: E402
from pm.train.run.context import LocalContext  # noqa: E402
from pm.train.run.launch import launch  # noqa: E402
from pm.train.run.storage import RemoteFolder, followed, join, mirrored  # noqa: E402
from pm.train.run.workers import run_worker  # noqa: E402


@pytest.fixture(scope="module")
def s3():
    """A storage path in a bucket of moto's server."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="runs")
        yield f"s3://test:test@runs/photomaker?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    server.stop()


def losses(folder):
    return [line["loss"] for line in read_metrics(folder / "metrics.jsonl")]


def test_a_runs_files_are_mirrored_and_followed(s3, tmp_path):
    remote = RemoteFolder(join(s3, "mirror"))
    worker, driver = tmp_path / "worker", tmp_path / "driver"
    driver.mkdir()
    with followed(remote, driver), mirrored(remote, worker):
        (worker / "metrics.jsonl").write_text("{}\n")
        (worker / "validation").mkdir()
        (worker / "validation/step.png").write_bytes(b"png")
        (worker / "checkpoints").mkdir()
        (worker / "checkpoints/big").write_bytes(b"x")
        (worker / ".lock").touch()
        (driver / ".stop").touch()
        while not (worker / ".stop").exists():  # the wish to stop goes the other way
            pass
    assert (driver / "metrics.jsonl").read_text() == "{}\n"
    assert (driver / "validation/step.png").read_bytes() == b"png"
    assert not (driver / "checkpoints").exists() and not (driver / ".lock").exists() and not remote.has(".stop")
    with mirrored(remote, tmp_path / "next"):  # another machine resumes with the same files
        assert (tmp_path / "next/metrics.jsonl").read_text() == "{}\n"


@pytest.mark.timeout(900)
def test_a_run_in_s3_equals_one_in_a_folder_also_when_interrupted(ray_session, tiny_dataset, tiny_base, s3, tmp_path):
    settings = {"engine__name": "ddp", "workers__num": 1, "workers__cpus_per_worker": 1}
    run_worker(run_config(tiny_dataset, tiny_base, **settings), LocalContext(tmp_path / "folder"), {})
    uri = join(s3, "sweep/cell")
    launch(run_config(tiny_dataset, tiny_base, train__steps=3, **settings), tmp_path / "one", {}, uri)
    remote = RemoteFolder(uri)
    assert remote.newest_checkpoint() == "step-00000003" and remote.has("summary.json")

    # Another machine, with nothing but the URI.
    adapter = launch(run_config(tiny_dataset, tiny_base, **settings), tmp_path / "other", {}, uri)
    # Of a process with another number of threads; test_train_chaos.py compares to the bit.
    assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "folder"), rel=1e-5)
    assert len(losses(tmp_path / "other")) == 6
    one, other = load_file(adapter), load_file(tmp_path / "folder/adapter.safetensors")
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=2e-4, msg=key)
    assert json.loads((tmp_path / "other/summary.json").read_text())["steps"] == 6
    assert remote.newest_checkpoint() == "step-00000006" and not (tmp_path / "other/checkpoints").exists()
    with pytest.raises(ConfigError, match=r"was started with seed=0 \(now 1\)"):
        launch(run_config(tiny_dataset, tiny_base, seed=1, **settings), tmp_path / "third", {}, uri)


def test_a_storage_that_cannot_be_written_is_said_at_once(ray_session, tiny_dataset, tiny_base, s3, tmp_path):
    config = run_config(tiny_dataset, tiny_base)
    missing = s3.replace("@runs/photomaker", "@nobody/here")
    with pytest.raises(ConfigError, match="storage s3://.*@nobody/here/x.* cannot be written.*bucket"):
        launch(config, tmp_path / "run", {}, join(missing, "x"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"s3://a:b@runs/x?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ConfigError, match="cannot be written"):
        launch(config, tmp_path / "run", {}, closed)
    with pytest.raises(ConfigError, match="cannot be opened"):
        launch(config, tmp_path / "run", {}, "nosuch://bucket/run")
    assert not os.listdir(tmp_path / "run")
