"""Ctrl-C and SIGTERM before a command has begun its work are one line; a reader that leaves is no fault."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines._early import until_nobody_reads
from pipelines._ending import ended_in_one_line

ROOT = Path(__file__).resolve().parents[3]
SAID = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("stopped by SIGTERM", 143)}


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in SAID}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SAID)
def test_while_it_imports(number):
    code = "import pipelines._photomaker as p, sys; p.watch_imports()\n"
    code += "print('ready', flush=True)\nclass A:\n    def __set_name__(*_): sys.stdin.read()\nclass B: a = A()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, shown = process.communicate(timeout=30)
    assert (shown.strip(), process.returncode) == SAID[number]


@pytest.mark.parametrize("number", SAID)
def test_while_it_runs(number, capsys):
    with pytest.raises(SystemExit) as left, ended_in_one_line("train"):
        signal.raise_signal(number)
    assert (capsys.readouterr().err.strip(), left.value.code) == SAID[number]


def test_while_ray_starts(capsys):
    """Ray then has its own handler, which leaves without a word."""
    with pytest.raises(SystemExit) as left, ended_in_one_line("train"):
        sys.exit(signal.SIGTERM)
    assert (capsys.readouterr().err.strip(), left.value.code) == SAID[signal.SIGTERM]
    with pytest.raises(SystemExit) as left, ended_in_one_line("train"):
        sys.exit(3)
    assert left.value.code == 3


def test_the_kept_word_of_an_interruption_is_said(capsys):
    with pytest.raises(SystemExit), ended_in_one_line("preprocess"):
        raise KeyboardInterrupt("the same command resumes where this one stopped")
    assert capsys.readouterr().err == "interrupted: the same command resumes where this one stopped\n"


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", [["--help"], ["votes", "--help"], ["votes", "--cfg", "job"]])
def test_a_reader_that_leaves_ends_a_command_without_a_word(arguments, buffered):
    code = "import sys; sys.stdin.read(); import pipelines._photomaker as p; p.main()"
    command = [sys.executable, *([] if buffered else ["-u"]), "-c", code, *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 141)


def test_another_broken_pipe_is_a_fault():
    with pytest.raises(BrokenPipeError), until_nobody_reads():
        raise BrokenPipeError("of a socket")
