"""Continuous batching: one thread that lets images join and leave the sampler between steps."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from pm.cpus import available_cpus
from pm.errors import PmError, RequestError
from pm.sample import PhotoMakerPipeline
from serving.config import EngineConfig
from serving.engine.cache import TenantCache
from serving.engine.decoder import Decoder
from serving.engine.people import split, with_embeds
from serving.engine.simulated import StepTimes, WaitingUnet
from serving.engine.ticket import Ticket
from serving.errors import EngineStopped
from serving.metrics import Recorder

_IDLE_S = 10.0


class Batcher:
    """Owns the pipeline: everything that runs a model happens in its thread, between or in steps."""

    def __init__(
        self, pipeline: PhotoMakerPipeline, config: EngineConfig, cache: TenantCache[Tensor], recorder: Recorder
    ) -> None:
        self.pipeline, self.config, self.cache, self.recorder = pipeline, config, cache, recorder
        self.sampler = pipeline.sampler()
        if config.step_times is not None:
            side = pipeline.base.shapes.latent_size
            self.sampler.predict = WaitingUnet(StepTimes.read(config.step_times), side * side)
            self.sampler.deep = None
        threads, apart = config.threads or available_cpus(), config.offload == "none"
        device = pipeline.base.vae.device
        self.decoder = Decoder(pipeline.decode_all, device, config.decode_batch, recorder, apart=apart, threads=threads)
        self.error: BaseException | None = None
        self.steps = 0  # since the start
        self._dropped = 0  # adapters' matrices, as far as recorded
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future]] = deque()
        self._rows: dict[int, Ticket] = {}
        self._running = True
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Images that have no place yet."""
        return len(self._waiting)

    def submit(self, ticket: Ticket) -> None:
        """Let an image wait for a place."""
        with self._changed:
            if not (self._running and self.alive):
                raise EngineStopped("the sampler has stopped")
            self._waiting.append(ticket)
            self._changed.notify()

    def cancel(self, ticket: Ticket) -> None:
        """Give an image up: it takes no further step, except the one that is running. Finished ones are ignored."""
        with self._changed:
            ticket.gone = True
            self._changed.notify()

    def call(self, function: Callable[[], Any]) -> Future:
        """Run something in the loop's thread, between two steps; rows on their way are not disturbed."""
        future: Future = Future()
        with self._changed:
            if not (self._running and self.alive):
                raise EngineStopped("the sampler has stopped")
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Stop after the running step; what waits is given up."""
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join()
        self.decoder.stop()

    def _run(self) -> None:
        torch.set_num_threads(self.config.threads or available_cpus())
        try:
            while self._wait():
                self._turn()
        except BaseException as error:
            # A defect: the replica reports itself ill and is replaced; its images are begun again elsewhere.
            self.error = error
            raise
        finally:
            with self._changed:
                self._running = False
                left = [*self._waiting, *self._rows.values()]
                for ticket in left:
                    ticket.emit(("stopped",))
                for _, future in self._calls:
                    future.cancel()

    def _wait(self) -> bool:
        """Until there is something to do; False when the loop shall end."""
        with self._changed:
            while self._running and not (self._waiting or self._rows or self._calls):
                self._changed.wait(_IDLE_S)
                self.cache.expire()
                # Ray forgets a gauge that it has reported; said again, zero stays zero and is not "no data".
                self.recorder.record("pm_queue_images", len(self._waiting))
            return self._running

    def _turn(self) -> None:
        with self._changed:
            calls = [self._calls.popleft() for _ in range(len(self._calls))]
            given_up = [ticket for ticket in (*self._waiting, *self._rows.values()) if ticket.gone]
            for ticket in given_up:
                if ticket.row is None:
                    self._waiting.remove(ticket)
            joining = [] if calls else self._next()
            self.recorder.record("pm_queue_images", len(self._waiting))
            self._tell_places()
        for ticket in given_up:
            if ticket.row is not None:
                self.sampler.remove(ticket.row)
                del self._rows[ticket.row]
            self.recorder.record("pm_cancelled_total")
        for function, future in calls:
            _answer(function, future)
        if joining:
            self.cache.expire()
            self._admit(joining)
        if self._rows:
            self._step()

    def _next(self) -> list[Ticket]:
        """Waiting images that fit beside those on their way, in the order they came: a large one is not overtaken."""
        joining: list[Ticket] = []
        used = sum(self._cost(ticket) for ticket in self._rows.values())
        while self._waiting and len(self._rows) + len(joining) < self.config.max_rows:
            cost = self._cost(self._waiting[0])
            if (self._rows or joining) and used + cost > self.config.pixel_budget:
                break
            used += cost
            joining.append(self._waiting.popleft())
        return joining

    def _tell_places(self) -> None:
        for place, ticket in enumerate(self._waiting, 1):
            if ticket.progress and ticket.place != place:
                ticket.place = place
                ticket.emit(("queued", place))

    def _cost(self, ticket: Ticket) -> int:
        width, height = self.pipeline.size(ticket.request)
        return width * height * (1 if ticket.request.guidance == 1 else 2)

    def _admit(self, joining: list[Ticket]) -> None:
        """Encode all newcomers in one batch; one that cannot be encoded ends alone."""
        try:
            rows = self._prepare(joining)
        except Exception as error:
            if len(joining) > 1:
                for ticket in joining:
                    self._admit([ticket])
            else:
                self._fail(joining[0], error)
            return
        for ticket, row in zip(joining, rows, strict=True):
            ticket.row = self.sampler.add(row)
            self._rows[ticket.row] = ticket

    def _prepare(self, joining: list[Ticket]) -> list[Any]:
        self._embed(joining)
        # The same tensors for the images of a request: its prompt is then encoded once.
        stacks: dict[tuple, tuple[Tensor, ...]] = {}
        requests = []
        for ticket in joining:
            if ticket.embeds:
                known = split(ticket.request, cast(list[Tensor], ticket.embeds))
                key = (ticket.tenant, *ticket.keys, *map(len, known))
                requests.append(with_embeds(ticket.request, stacks.setdefault(key, known)))
            else:
                requests.append(ticket.request)
        return self.pipeline.prepare(requests)

    def _embed(self, joining: list[Ticket]) -> None:
        """Run the vision tower once for every photo that is new, whoever sent it and however often."""
        missing: dict[str, dict[tuple, Any]] = {}
        for ticket in joining:
            for i, key in enumerate(ticket.keys):
                if ticket.embeds[i] is None:
                    # Another image of the same request may have brought it in since.
                    ticket.embeds[i] = self.cache.get(ticket.tenant, key)
                if ticket.embeds[i] is None:
                    missing.setdefault(ticket.request.adapter, {})[ticket.tenant, key] = ticket.references[i]
        for adapter, references in missing.items():
            found = dict(zip(references, self.pipeline.embed(list(references.values()), adapter=adapter), strict=True))
            for (tenant, key), value in found.items():
                if bool(torch.isfinite(value).all()):
                    self.cache.put(tenant, key, value.clone())
            for ticket in joining:
                for i, key in enumerate(ticket.keys):
                    if ticket.embeds[i] is None and ticket.request.adapter == adapter:
                        ticket.embeds[i] = found[ticket.tenant, key]

    def _step(self) -> None:
        begin = time.perf_counter()
        count = self.sampler.step()
        if count:
            self.steps += 1
            self.recorder.record("pm_step_seconds", time.perf_counter() - begin)
            self.recorder.record("pm_batch_images", count)
            self._record_adapters()
        for row, error in self.sampler.failed().items():
            self._fail(self._rows.pop(row), error, kind="failed")
        for row, latents in self.sampler.finished().items():
            self._finish(self._rows.pop(row), latents)
        on_way = self.sampler.keys()
        for row in on_way:
            ticket = self._rows[row]
            if ticket.progress and not ticket.gone:
                ticket.emit(("progress", *self.sampler.position(row)))
            self._preview(row, ticket)

    def _preview(self, row: int, ticket: Ticket) -> None:
        """`previews` of them, evenly between the first and the last step."""
        if ticket.shown == ticket.previews or ticket.gone:
            return
        done, total = self.sampler.position(row)
        if done * (ticket.previews + 1) >= total * (ticket.shown + 1):
            try:
                image = self.pipeline.preview(self.sampler.estimate(row), side=max(self.pipeline.size(ticket.request)))
            except Exception as error:
                self.sampler.remove(row)
                # Not while `_step` walks over the rows: dropped with the next turn's leavers.
                ticket.gone = True
                self._fail(ticket, error)
                return
            ticket.emit(("preview", image, ticket.shown))
            ticket.shown += 1

    def _finish(self, ticket: Ticket, latents: Tensor) -> None:
        if ticket.gone:
            self.recorder.record("pm_cancelled_total")
            return

        def done(image: Image.Image | None, error: Exception | None) -> None:
            if error is not None:
                self._fail(ticket, error)
                return
            self.recorder.record("pm_images_total", model=ticket.request.adapter)
            ticket.emit(("image", image))

        self.decoder.submit(latents, done)

    def _record_adapters(self) -> None:
        held, dropped = self.pipeline.adapter_memory
        self.recorder.record("pm_adapter_bytes", held)
        if dropped > self._dropped:
            self.recorder.record("pm_adapters_dropped_total", dropped - self._dropped)
            self._dropped = dropped

    def _fail(self, ticket: Ticket, error: Exception, kind: str | None = None) -> None:
        kind = kind or ("invalid" if isinstance(error, RequestError) else "failed")
        self.recorder.record("pm_failed_total", kind=kind)
        message = str(error) if isinstance(error, PmError) else f"{type(error).__name__} in the sampler"
        ticket.emit(("error", kind, message, None if isinstance(error, PmError) else error))


def _answer(function: Callable[[], Any], future: Future) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
