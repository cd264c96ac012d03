"""What rank 0 sees between two steps; several workers are in `tests/distributed/test_train_workers.py`."""

import pytest

from pm.train.run.signals import Signals


class Context:
    rank = 0

    def __init__(self, stop=False, ask=False, leaving=False):
        self.stop, self.ask, self.leaving = stop, ask, leaving

    def stop_requested(self):
        return self.stop

    def should_ask(self):
        return self.ask

    def preempted(self):
        assert self.ask  # it costs a request
        return self.leaving


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (Context(), (False, False)),
        (Context(stop=True), (True, False)),
        (Context(ask=True), (False, False)),
        (Context(ask=True, leaving=True), (False, True)),
        (Context(stop=True, ask=True, leaving=True), (True, True)),
        (Context(leaving=True), (False, False)),
    ],
)
def test_flags(context, expected):
    signals = Signals(context)
    for _ in range(2):
        signals.begin()
        assert signals.end() == expected
