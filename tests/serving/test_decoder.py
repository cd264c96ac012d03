"""Finished images are decoded together and beside the steps."""

import threading

import pytest
import torch
from PIL import Image

from serving.engine.decoder import Decoder
from serving.metrics import MemoryRecorder

CPU = torch.device("cpu")


class Slow:
    """Decodes when it is told to; a value of -1 cannot be."""

    def __init__(self):
        self.go, self.begun, self.calls = threading.Event(), threading.Event(), []

    def __call__(self, latents):
        self.begun.set()
        assert self.go.wait(10)
        self.calls.append([int(each.mean()) for each in latents])
        if -1 in self.calls[-1]:
            raise RuntimeError("out of memory")
        return [Image.new("RGB", each.shape[1:], (int(each.mean()), 0, 0)) for each in latents]


@pytest.mark.parametrize("apart", [True, False])
def test_what_waits_is_decoded_together_by_size_and_fails_alone(apart):
    slow, found, done = Slow(), {}, threading.Event()
    decoder = Decoder(slow, CPU, 3, MemoryRecorder(), apart=apart)
    values = {0: (1, 4), 1: (2, 4), 2: (3, 8), 3: (-1, 4), 4: (5, 4), 5: (6, 4)}
    if not apart:
        slow.go.set()

    def keep(key):
        def done_with(image, error):
            found[key] = str(error) if image is None else image.getpixel((0, 0))[0]
            if len(found) == len(values):
                done.set()

        return done_with

    for key, (value, side) in values.items():
        decoder.submit(torch.full((1, side, side), float(value)), keep(key))
        assert not apart or slow.begun.wait(10)
    slow.go.set()
    assert done.wait(10)
    decoder.stop()
    assert found == {0: 1, 1: 2, 2: 3, 3: "out of memory", 4: 5, 5: 6}
    if apart:  # the first had begun before the others came
        assert slow.calls == [[1], [2, -1, 5], [2], [-1], [5], [3], [6]]
