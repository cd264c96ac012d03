"""Finished latents become pictures in a thread of their own, so that the sampler goes on with the others meanwhile."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from serving.metrics import Recorder

Done = Callable[[Image.Image | None, Exception | None], None]  # with the picture, or with why there is none


class Decoder:
    """Decodes all that wait and have one size together, up to a number of images."""

    def __init__(
        self,
        decode: Callable[[Sequence[Tensor]], list[Image.Image]],
        device: torch.device,
        most: int,
        recorder: Recorder,
        *,
        apart: bool = True,
        threads: int = 1,
    ) -> None:
        """Begin.

        Args:
            decode: latents [C, h, w] of one size to pictures.
            device: of the VAE; on CUDA it works in a stream of its own, beside the U-Net's.
            most: images in one call.
            recorder: of figures.
            apart: False decodes in the caller's thread, for models that cannot be called by two at once.
            threads: of the CPU.
        """
        self._decode, self._device, self._most, self._recorder = decode, device, most, recorder
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" and apart else None
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Tensor, Done]] = deque()
        self._running, self._threads = True, threads
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True) if apart else None
        if self._thread is not None:
            self._thread.start()

    def __len__(self) -> int:
        """Images that wait."""
        return len(self._waiting)

    def submit(self, latents: Tensor, done: Done) -> None:
        """Decode the latents [C, h, w] of one image, which have been computed; `done` is called in another thread."""
        if self._thread is None:
            self._make([(latents, done)])
            return
        with self._changed:
            self._waiting.append((latents, done))
            self._changed.notify()

    def stop(self) -> None:
        """Decode what is there, and end."""
        with self._changed:
            self._running = False
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while True:
            with self._changed:
                while self._running and not self._waiting:
                    self._changed.wait()
                if not self._waiting:
                    return
                some = self._next()
            self._make(some)

    def _next(self) -> list[tuple[Tensor, Done]]:
        """The first that waits, and others of its size."""
        size = self._waiting[0][0].shape
        some = [each for each in self._waiting if each[0].shape == size][: self._most]
        taken = {id(each) for each in some}
        self._waiting = deque(each for each in self._waiting if id(each) not in taken)
        return some

    def _make(self, some: Sequence[tuple[Tensor, Done]]) -> None:
        begin = time.perf_counter()
        try:
            with self._beside([latents for latents, _ in some]):
                images = self._decode([latents for latents, _ in some])
        except Exception as error:
            if len(some) == 1:
                some[0][1](None, error)
                return
            for each in some:  # each alone will tell, and needs less memory
                self._make([each])
            return
        self._recorder.record("pm_decode_seconds", time.perf_counter() - begin)
        for (_, done), image in zip(some, images, strict=True):
            done(image, None)

    def _beside(self, latents: Sequence[Tensor]) -> AbstractContextManager[Any]:
        if self._stream is None:
            return nullcontext()
        for each in latents:  # their memory is not given to others while this stream reads it
            each.record_stream(self._stream)
        return torch.cuda.stream(self._stream)
