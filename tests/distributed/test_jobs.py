"""`ray job submit` as docs/clusters.md says: a local head with a token, a job that is stopped, and one that resumes.

It ends, bit for bit, where a run without cluster and without interruption does.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pm.config import from_mapping
from pm.cpus import available_cpus
from pm.train.callbacks.metrics import MetricsFile, read_metrics
from pm.train.run.config import RunConfig
from pm.train.run.context import LocalContext
from pm.train.run.workers import run_worker

ROOT = Path(__file__).resolve().parents[2]
STEPS = 40
pytestmark = pytest.mark.timeout(900)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The environment that reaches a head of its own: own home, own token, own ports."""
    home = tmp_path_factory.mktemp("home")
    gcs, dashboard, agent, agent_grpc, metrics, client = free_ports(6)
    drop = ("RAY_", "PYTEST_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(drop)} | {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "RAY_AUTH_MODE": "token",
        "RAY_JOB_STOP_WAIT_TIME_S": "120",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PM_STORAGE": str(home / "runs"),
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(["ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    ports = {"port": gcs, "dashboard-port": dashboard, "dashboard-agent-listen-port": agent}
    ports |= {"dashboard-agent-grpc-port": agent_grpc, "metrics-export-port": metrics, "ray-client-server-port": client}
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    temporary = f"/tmp/pm-ray-{os.getpid()}"  # short: Ray puts sockets into it
    with (home / "head.log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--temp-dir={temporary}"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    environment |= {"RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    try:
        wait_for(lambda: answers(dashboard), 120, lambda: (home / "head.log").read_text())
        yield environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # it waits longer for some of its processes
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def ray(environment, *arguments):
    return subprocess.run(["ray", *arguments], env=environment, cwd=ROOT, capture_output=True, text=True)


def stop(environment, job):
    """What `ray job stop` asks for; the command itself takes so long to start that a short job has ended by then."""
    token = Path(environment["HOME"], ".ray", "auth_token").read_text().strip()
    request = urllib.request.Request(
        f"{environment['RAY_ADDRESS']}/api/jobs/{job}/stop", headers={"Authorization": f"Bearer {token}"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["stopped"]


def wait_for(condition, seconds, why):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.5)


@pytest.fixture(scope="module")
def command(tiny_dataset, tiny_base):
    """The smoke experiment on the tiny base."""
    small = {"base.path": tiny_base, "base.vision_path": tiny_base / "image_encoder", "data": tiny_dataset}
    small |= {"train.steps": STEPS, "train.checkpoint_every": 5, "train.validate_every": "null"}
    small |= {"train.batch_size": 8, "train.micro_batch_size": 1}  # steps that last: a job is stopped in one
    small |= {"engine": "ddp", "adapter.lora_rank": 4, "adapter.train_layers": 1, "workers.num": 1}
    arguments = [f"{key}={value}" for key, value in small.items()]
    return ["--working-dir", ".", "--", "python", "pipelines/train.py", "experiment=smoke", *arguments]


def steps_told(log: str) -> list[int]:
    return [int(step) for step in re.findall(rf"step (\d+)/{STEPS}", log)]


def straight_through(run: Path, folder: Path) -> Path:
    """The training of `run` again, in this process."""
    config = from_mapping(RunConfig, yaml.safe_load((run / "config.yaml").read_text()))
    before = torch.get_num_threads()
    torch.set_num_threads(available_cpus())  # as a worker that is alone on its machine
    try:
        run_worker(config, LocalContext(folder), {}, [MetricsFile(folder)])
    finally:
        torch.set_num_threads(before)
    return folder


def test_a_job_streams_progress_is_stopped_and_goes_on(head, command, tmp_path):
    run = Path(head["PM_STORAGE"], "smoke")
    with pytest.raises(urllib.error.HTTPError, match="401"):  # nobody else gets in
        urllib.request.urlopen(head["RAY_ADDRESS"] + "/api/jobs/", timeout=30)

    first = subprocess.Popen(
        ["ray", "job", "submit", "--submission-id", "first", *command],
        env=head,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in first.stdout:  # streamed: the job still runs
        lines.append(line)
        if steps_told(line):
            break
    assert first.poll() is None, "".join(lines)
    stop(head, "first")
    first.stdout.read()  # not judged: Ray may close the stream of a stopped job before its last lines
    first.wait(60)
    told = ray(head, "job", "logs", "first").stdout
    for line in ("saving a checkpoint", "was interrupted; run the same command again to resume from"):
        assert line in told, told[-4000:]
    saved = max(run.glob("checkpoints/step-*"))
    step = json.loads((saved / "state.json").read_text())["step"]
    assert 0 < step < STEPS and not (run / "adapter.safetensors").exists()

    again = ray(head, "job", "submit", "--submission-id", "again", *command)
    assert again.returncode == 0 and "succeeded" in again.stdout, again.stdout + again.stderr
    assert min(steps_told(again.stdout)) > step
    straight = straight_through(run, tmp_path)
    told, expected = ([(m["step"], m["loss"]) for m in read_metrics(d / "metrics.jsonl")] for d in (run, straight))
    assert told == expected and [step for step, _ in told] == list(range(1, STEPS + 1))
    one, other = (load_file(folder / "adapter.safetensors") for folder in (run, straight))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
