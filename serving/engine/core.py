"""The GPU replica: photos and a prompt in, previews and a picture out, many clients in one batch."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from pm.choice import import_modules
from pm.errors import PmError, RequestError
from pm.model.class_words import with_class_words
from pm.sample import PhotoMakerPipeline, Request
from pm.sample.config import first_merged
from pm.sample.devices import pick_device, pick_dtype
from pm.sample.output_file import XMP
from pm.sample.references import Reference
from pm.sample.request import merge_step_of
from pm.sample.said import interval_said, schedule_said
from pm.startup import collect_rarely
from pm.strengths import written
from serving.config import BASE, ServeConfig, check_adapters
from serving.engine.cache import TenantCache
from serving.engine.fit import drawn_size
from serving.engine.leaving import Leaving
from serving.engine.look import seen
from serving.engine.loop import Batcher
from serving.engine.loras import ServedLoras
from serving.engine.people import identity_of, images_of, with_usable
from serving.engine.pictures import XMP_PACKET, about_pictures, pictures_of, sized
from serving.engine.ticket import Ticket
from serving.errors import EngineStopped
from serving.jobs import IDENTITY, Job, Look, Photo
from serving.loras import LoraFolder
from serving.metrics import Recorder

logger = logging.getLogger("ray.serve")


class Engine:
    """One base with its adapters and one batching loop. Knows nothing of Ray: `serving.app` deploys it."""

    def __init__(self, config: ServeConfig, recorder: Recorder) -> None:
        """Load the base and the adapters.

        Raises:
            CheckpointError: one of them cannot be used.
        """
        collect_rarely()
        import_modules(config.modules)
        self.config, self.recorder = config, recorder
        self.leaving = Leaving(config.protect, recorder)
        device = pick_device(config.engine.device)
        self.pipeline = PhotoMakerPipeline.from_pretrained(
            config.base.path,
            device=device,
            dtype=pick_dtype(config.engine.dtype, device),
            schedule=config.sampler.schedule,
            merge_fraction=config.sampler.merge_fraction,
            family=config.base.family,
            class_words=with_class_words(config.class_words),
            embedder=config.embedder,
            compile=config.engine.compile,
            offload=config.engine.offload,
            vae_tiling=config.engine.vae_tiling,
            quantize=config.engine.quantize,
        )
        for name, place in config.controls.items():
            self.pipeline.load_control(place, name)
        self.adapters: dict[str, tuple] = {}  # name -> which file, and as of when
        self._swap(config.adapters)
        self.pipeline.keep_loras(config.cache.lora_bytes)
        self.pipeline.keep_adapters(config.cache.adapter_bytes)
        self.loras = ServedLoras(self.pipeline, LoraFolder(config.loras))
        self.cache: TenantCache[Tensor] = TenantCache(config.cache.photos, config.cache.tenants, config.cache.ttl_s)
        self.batcher = Batcher(self.pipeline, config.engine, self.cache, recorder)
        self._preparing: dict[tuple, asyncio.Future] = {}
        if config.engine.compile != "off" or device.type != "cpu":
            self.batcher.call(self.pipeline.warm_up).result()  # an engine that is not ready is sent nothing

    async def swap_adapters(self, adapters: Mapping[str, str]) -> None:
        """Serve exactly these adapters from now on, each read again if its file has changed; images on their way keep
        theirs.

        Raises:
            ConfigError: there is none, or a name is not allowed.
            CheckpointError: one cannot be used; it is served as before, and so are those after it.
        """
        check_adapters(adapters)
        await asyncio.wrap_future(self.batcher.call(lambda: self._swap(adapters)))

    def check(self) -> None:
        """Raises if this replica cannot make images any more."""
        if not self.batcher.alive:
            raise RuntimeError(f"the sampler has stopped: {self.batcher.error!r}")

    def stats(self) -> dict[str, int]:
        """What it is doing right now."""
        batcher = self.batcher
        return {"pid": os.getpid(), "rows": len(batcher.sampler), "waiting": batcher.waiting, "steps": batcher.steps}

    def stop(self) -> None:
        self.batcher.stop()

    async def generate(self, job: Job, photos: Sequence[Photo]) -> AsyncGenerator[dict[str, Any], None]:
        """Make one image.

        Yields:
            {"type": "preview", "index", "file", "size"}, where the job asks for it {"type": "queued", "position"} and
            {"type": "progress", "step", "steps"}, and at last {"type": "image", "file", "size", "notes",
            "revised_prompt"}, or {"type": "error", "kind", "message"}; errors are no exceptions, since those would be
            logged, prompts and all. A file is one of the job's format.
            Closing the generator gives the image up.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        try:
            ticket = await self._ticket(job, photos, lambda e: loop.call_soon_threadsafe(events.put_nowait, e))
        except PmError as error:
            kind = "invalid" if isinstance(error, RequestError) else "failed"
            yield {"type": "error", "kind": kind, "message": str(error)}
            return
        self.batcher.submit(ticket)
        how = job.format, job.quality, self.config.engine.png_level
        try:
            while True:
                kind, *rest = await events.get()
                if kind == "preview":
                    if (preview := await asyncio.to_thread(self.leaving.preview, rest[0], rest[1], how)) is not None:
                        yield preview
                elif kind == "queued":
                    yield {"type": "queued", "position": rest[0]}
                elif kind == "progress":
                    yield {"type": "progress", "step": rest[0], "steps": rest[1]}
                elif kind == "image":
                    about = self._about(job) | about_pictures(job, photos)
                    if job.people:  # those who are found need steps before it
                        about["merge_step"] = self.pipeline.merge_step(ticket.request)
                    read = self.pipeline.completed(ticket.request)
                    said = {"notes": ticket.notes, "revised_prompt": None if read == job.prompt else read}
                    yield await asyncio.to_thread(self.leaving.event, rest[0], about, how, said)
                    return
                elif kind == "error":
                    if rest[2] is not None:
                        logger.error("request_id=%s failed in the sampler", job.request_id, exc_info=rest[2])
                    yield {"type": "error", "kind": rest[0], "message": rest[1]}
                    return
                else:
                    raise EngineStopped("the sampler has stopped")
        finally:
            self.batcher.cancel(ticket)

    async def look(self, look: Look, photos: Sequence[Photo]) -> list[dict[str, Any]]:
        """What a model would see of each photo, as `serving.engine.look.seen` tells it."""
        return await asyncio.to_thread(seen, self.pipeline, look, photos, self.config.photo)

    async def _ticket(self, job: Job, photos: Sequence[Photo], emit: Any) -> Ticket:
        """Everything that needs no model of the sampler: checks, and the faces of photos that are new.

        Raises:
            RequestError: the job cannot be served.
        """
        people = [photo for photo in photos if photo.use == IDENTITY]
        width, height, said = drawn_size(job, self.pipeline, self.config.limits.size)
        request = Request(
            prompt=job.prompt,
            **identity_of(job, photos),
            seed=job.seed,
            steps=job.steps,
            guidance=job.guidance,
            guidance_rescale=job.guidance_rescale,
            clip_skip=job.clip_skip,
            **self._sampling(job),
            scale=job.scale,
            id_strength=job.id_strength,
            id_start=job.id_start,
            id_end=job.id_end,
            class_word=job.class_word,
            prompt_weighting=job.prompt_weighting,
            trigger=job.trigger,
            merge_step=self._merge_step(job) if job.id_start is None else None,
            negative_prompt=job.negative_prompt,
            width=width,
            height=height,
            adapter=job.model,
            **pictures_of(job, photos),
            loras=dict(job.loras),
        )
        if request.loras:
            await asyncio.wrap_future(self.batcher.call(lambda: self.loras.offer(request.loras)))
        self.pipeline.check(request)
        await asyncio.to_thread(self.pipeline.prepare_adapter, job.model)
        request, notes = sized(request, self.pipeline.base.shapes, self.config.limits.size)
        notes = [*job.notes, *said, *notes, *self.pipeline.notes(request)]
        ticket = Ticket(request, job.tenant, job.partials, emit, notes=notes, progress=job.progress)
        if people:
            version = self.pipeline.digest_of(job.model)
            ticket.keys = [(photo.digest, job.preprocess, job.pick, job.model, version) for photo in people]
            ticket.embeds = [self.cache.get(job.tenant, key) for key in ticket.keys]
            for embedding in ticket.embeds:
                self.recorder.record("pm_identity_cache_total", result="miss" if embedding is None else "hit")
            if any(embedding is None for embedding in ticket.embeds):
                self._leave_out(ticket, await self._references(job, ticket, images_of(request)))
        return ticket

    async def _references(self, job: Job, ticket: Ticket, images: Sequence[Image.Image]) -> list[Any]:
        """Find the faces, once for all images of a request, beside the running steps."""
        key = (job.tenant, *ticket.keys)
        task = self._preparing.get(key)
        if task is None:
            work = asyncio.to_thread(
                self.leaving.references,
                self.pipeline.references,
                list(images),
                adapter=job.model,
                preprocess=job.preprocess,
                photo=self.config.photo,
                pick=job.pick,
                strict=self.config.references == "strict",
            )
            task = self._preparing[key] = asyncio.ensure_future(work)
            task.add_done_callback(lambda _: self._preparing.pop(key, None))
        return await asyncio.shield(task)

    @staticmethod
    def _leave_out(ticket: Ticket, references: Sequence[Reference]) -> None:
        """Keep the photos that can be used, with what belongs to each."""
        ticket.request, kept = with_usable(ticket.request, references), [reference.index for reference in references]
        ticket.keys, ticket.embeds = [ticket.keys[i] for i in kept], [ticket.embeds[i] for i in kept]
        ticket.references = list(references)
        ticket.notes += dict.fromkeys(note for reference in references for note in reference.notes)

    def _swap(self, adapters: Mapping[str, str]) -> None:
        for name, file in adapters.items():
            version = _version(file)
            if self.adapters.get(name) != version:
                own = {"adapter_name": name, "check_base": self.config.check_base}
                self.pipeline.load_photomaker_adapter(file, read_faces=True, **own)
                self.adapters[name] = version
        for name in set(self.adapters) - set(adapters):
            self.pipeline.unload_photomaker_adapter(name)
            del self.adapters[name]

    def _merge_step(self, job: Job) -> int:
        if job.id_start is not None:
            return first_merged(job.id_start, job.steps)
        if job.start_merge_step is not None:
            return merge_step_of(job.start_merge_step, job.steps)
        own = None if job.sampler is None else job.sampler.merge_fraction
        return first_merged(self.pipeline.merge_fraction if own is None else own, job.steps)

    def _sampling(self, job: Job) -> dict[str, Any]:
        """Fields of `Request` that say how it is sampled."""
        own = job.sampler or self.config.sampler
        return {
            "schedule": own.schedule,
            "eta": own.eta,
            "guidance_start": own.guidance_start,
            "guidance_end": own.guidance_end,
            "cache_interval": own.cache_interval,
        }

    def _about(self, job: Job) -> dict[str, object]:
        """What a picture says of itself."""
        how = self._sampling(job)
        return {
            "provenance": self.config.provenance,
            XMP: XMP_PACKET,
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt or "",
            "model": job.model,
            "base": self.pipeline.base.fingerprint,
            **({} if job.model == BASE else {"adapter_fingerprint": self.pipeline.digest_of(job.model)}),
            "seed": job.seed,
            "steps": job.steps,
            "guidance": job.guidance,
            **{name: value for name in ("guidance_rescale", "clip_skip") if (value := getattr(job, name))},
            "merge_step": self._merge_step(job),
            "id_strength": job.id_strength,
            "id_end": job.id_end,
            **({} if job.scale is None else {"scale": job.scale}),
            "weights": "1" if job.weights is None else ", ".join(map(str, job.weights)),
            **({"loras": written(dict(job.loras))} if job.loras else {}),
            **schedule_said(how["schedule"]),
            **interval_said(how["guidance_start"], how["guidance_end"]),
            **({"cache_interval": how["cache_interval"]} if how["cache_interval"] > 1 else {}),
            **({"eta": how["eta"]} if how["eta"] else {}),
            "request_id": job.request_id,
        }


def _version(file: str) -> tuple:
    try:
        stat = Path(file).stat()
    except OSError:
        return (file,)  # a repository's name; or missing, which loading it will say
    return (file, stat.st_mtime_ns, stat.st_size)
