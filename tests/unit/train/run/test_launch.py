"""The driver's own behaviour, without Ray."""

import os
import signal

from support.loops import make_trainer

from pm.train.run.launch import _interrupted, _saved_on_sigterm
from pm.train.run.summary import STOP


def test_the_first_sigterm_asks_the_workers_to_save_and_the_next_ends_the_command(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / STOP).touch()  # of an earlier attempt
    with _saved_on_sigterm(tmp_path):
        assert not (tmp_path / STOP).exists()
        os.kill(os.getpid(), signal.SIGTERM)
        assert (tmp_path / STOP).exists()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert "SIGTERM: saving a checkpoint after this step" in capsys.readouterr().err
    assert not (tmp_path / STOP).exists() and signal.getsignal(signal.SIGTERM) is before


def test_an_interrupted_run_says_where_it_resumes(tmp_path):
    assert "start again: there was no checkpoint yet" in str(_interrupted(tmp_path, None))
    make_trainer(tmp_path, steps=2, checkpoint_every=2).fit()
    message = str(_interrupted(tmp_path, None))
    assert f"run {tmp_path} was interrupted" in message and "resume from step-00000002" in message
