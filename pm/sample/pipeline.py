"""The library's front door: load a base and adapters, ask for images."""

import logging
from collections import deque
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from pm.errors import RequestError
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.image_prompt import attend_to_images
from pm.photo.stored import Preparation
from pm.sample.checks import check_request, completed, parsed, prompt_notes
from pm.sample.config import first_merged, guided_steps
from pm.sample.decoding import Decoding
from pm.sample.drawn import drawn_note
from pm.sample.fine import plan_for, told
from pm.sample.identity import AnyPhoto, prepare_all, preparer
from pm.sample.image_prompts import Prompting, check_prompt_images
from pm.sample.loras import encoding_with
from pm.sample.models import LoadedModels
from pm.sample.people import check_places, located, looked_for, merge_step_for
from pm.sample.pictures import first_step, size_of
from pm.sample.prepare import IdPhoto, condition, embed_photos, negative_texts, with_time_ids
from pm.sample.progress import bar
from pm.sample.published import PublishedInterface
from pm.sample.references import Reference
from pm.sample.request import Request, whole
from pm.sample.row import Row
from pm.sample.sampler import Sampler
from pm.sample.sizes import aspect_size, rounded, rounding_note
from pm.sample.start import Starter
from pm.sample.warm_up import warm_up

_log = logging.getLogger(__name__)


class PhotoMakerPipeline(LoadedModels, Decoding, PublishedInterface):
    """Turn requests into images; with adapters (ID images and a trigger word) or without (plain text).

    Calling it has the published pipeline's arguments (`pm.sample.published`); `generate` takes `Request`s, each with
    its own settings. For a server: `check`, `references`, `embed`, `prepare`, `sampler`, `preview`, `decode`.
    """

    _warned = False  # of photographs on a base of drawings; once is enough

    def size(self, request: Request) -> tuple[int, int]:
        """Width and height of a request's image in pixels."""
        return size_of(request, self.base.shapes)

    def sides(self, width: int | None = None, height: int | None = None, aspect: str | None = None) -> tuple[int, int]:
        """Width and height in pixels that will be drawn; a warning says so where that is not what was asked for.

        Args:
            width: px; None: what the base was trained for.
            height: likewise.
            aspect: of both instead: `3:4`, `portrait`, ..., as in `pm.sample.sizes.aspect_size`.

        Raises:
            RequestError: an aspect beside width or height, no such aspect, or no whole number.
        """
        if aspect is not None:
            if width is not None or height is not None:
                raise RequestError(f"aspect={aspect!r} is given beside width or height; give one of them")
            return aspect_size(aspect, self.base.resolution, self.pixel_step)
        width, height = self.drawn_sides(width, height)
        own = self.base.resolution
        return own if width is None else width, own if height is None else height

    def drawn_sides(self, width: int | None, height: int | None) -> tuple[int | None, int | None]:
        """Sides rounded to what the base can draw, with a warning where they were not; None stays."""
        given = [None if v is None else whole(name, v) for name, v in (("width", width), ("height", height))]
        note = rounding_note(given[0], given[1], self.pixel_step)
        if note is not None:
            _log.warning(note)
        found = [None if side is None else rounded(side, self.pixel_step) for side in given]
        return found[0], found[1]

    def merge_step(self, request: Request) -> int:
        """First step of a request that sees the identity, whether it says so or not; 0 for adapters without a delay."""
        adapter = self.adapter(request.adapter)
        if adapter is None or not adapter.terms.kind.delays:
            return 0
        return merge_step_for(request, first_merged(self.merge_fraction, request.steps))

    def merge_end(self, request: Request) -> int | None:
        """First step of a request that sees the text alone again; None: there is none."""
        return None if request.id_end == 1 else first_merged(request.id_end, request.steps)

    def completed(self, request: Request) -> str:
        """The prompt with the trigger word in it, where `trigger="auto"` puts one."""
        adapter = self.adapter(request.adapter)
        return completed(request, adapter.terms if adapter else None, self.class_words)

    def notes(self, request: Request) -> list[str]:
        """What the user should know of how the prompt was read: a trigger put in, an unusual class word."""
        adapter = self.adapter(request.adapter)
        return prompt_notes(request, adapter.terms if adapter else None, self.class_words)

    def references(
        self,
        images: Sequence[AnyPhoto],
        adapter: str | None = None,
        preprocess: str = "auto",
        *,
        photo: Preparation | None = None,
        pick: str = "largest",
        strict: bool = False,
        read_faces: bool = True,
    ) -> list[Reference]:
        """Prepare ID photos as the adapter's training did (its metadata says how). No model of this pipeline runs.

        Args:
            images: Pillow images, uint8 arrays [H, W, 3], or file names.
            adapter: by name; None: the default.
            preprocess: "none" takes them as they are; more in `pm.sample.identity.preparer`.
            photo: how photographs are prepared where the adapter does not say; None: as `conf/` has it.
            pick: which of several faces: "largest", "left", "middle" or "right".
            strict: refuse a photo that cannot be used even if others can.
            read_faces: False leaves out the embeddings of faces, for an adapter that takes them: they are known.

        Returns:
            Those that can be used, in their order; `index` says which each is, `notes` what was left out and why.

        Raises:
            RequestError: none can be used: no face, too small a face, unreadable, ...; names each photo.
        """
        chosen = self.adapter(adapter)
        meta = chosen.meta if chosen else None
        prepare = preparer(meta, preprocess, photo, pick, embedder=self.embedder, read_faces=read_faces)
        found = prepare_all(images, prepare, strict)
        note = None if self._warned else drawn_note(self.base, found)
        if note is not None:
            _log.warning(note)
            self._warned = True
        return found

    def embed(self, references: Sequence[Reference], adapter: str | None = None) -> Tensor:
        """What the adapter knows of each photo: float32 [N, ...] on the CPU, for `Request.id_embeds`.

        Row i depends on photo i and the adapter only, so rows can be kept and put together anew.
        """
        chosen = self.adapter(adapter)
        if chosen is None:
            raise RequestError("the base alone has no identity encoder; name an adapter")
        faces = [r.face.embedding if r.face is not None else () for r in references]
        shown = [IdPhoto(r.image, r.mask, face) for r, face in zip(references, faces, strict=True)]
        return embed_photos(chosen, shown).float().cpu()

    def generate(
        self,
        requests: Sequence[Request],
        batch_size: int = 8,
        progress: bool = False,
        on_step: Callable[[Sampler], None] | None = None,
    ) -> list[Image.Image]:
        """Images in the order of the requests; `latents`, decoded. The arguments are those of `latents`."""
        images = []
        latents = self.latents(requests, batch_size, progress, on_step)
        with bar("decoding", progress, len(latents), "image") as line:
            for each in latents:
                images.append(self.decode(each))
                line.update()
        return images

    def latents(
        self,
        requests: Sequence[Request],
        batch_size: int = 8,
        progress: bool = False,
        on_step: Callable[[Sampler], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> list[Tensor]:
        """Latents [C, h, w] float32 in the order of the requests.

        Up to `batch_size` rows are sampled together; the next request joins as soon as a row is done. An image depends
        on its own request only. `on_step` is called after each step and may look at `sampler.advanced()`. `stopped` is
        asked before each step: True ends all rows as they are then.

        Raises:
            RequestError: a request cannot be served, and nothing is sampled then; or an image became NaN.
        """
        for request in requests:
            self.check(request)
        odd = [rounding_note(r.width, r.height, self.pixel_step) for r in requests]
        said = [note for request in requests for note in self.notes(request)]
        for note in dict.fromkeys([*filter(None, odd), *said]):
            _log.warning(note)
        results: dict[int, Tensor] = {}
        owner: dict[int, int] = {}
        waiting, sampler = deque(range(len(requests))), self.sampler()
        total = sum(request.steps - first_step(request) for request in requests)
        with bar("reading prompts and photos", progress, total, "step") as line:
            while waiting or len(sampler):
                joining = [waiting.popleft() for _ in range(min(batch_size - len(sampler), len(waiting)))]
                for i, row in zip(joining, self.prepare([requests[i] for i in joining]), strict=True):
                    owner[sampler.add(row)] = i
                line.set_description("sampling", refresh=False)
                if stopped is not None and stopped():
                    sampler.stop()
                line.update(sampler.step())
                for error in sampler.failed().values():
                    raise error
                if on_step is not None and sampler.advanced():
                    on_step(sampler)
                for key, latents in sampler.finished().items():
                    results[owner[key]] = latents
        return [results[i] for i in range(len(requests))]

    def sampler(self) -> Sampler:
        """An empty set of rows for this model: `add` what `prepare` made, `step`, `decode` what `finished` gives."""
        in_training = self._switch is None
        return Sampler(self.base.unet, self.base.predict, self._switch, self.deep_features, isolate=not in_training)

    def check(self, request: Request) -> None:
        """Check a request fully, without running a model.

        Raises:
            RequestError: it cannot be served.
        """
        adapter = self.adapter(request.adapter)
        check_request(request, self.base, adapter.terms if adapter else None, self.schedule, self.class_words)
        for control in request.controls:
            self.control(control.name)
        check_places(request, self.base, self.merge_step(request))
        check_prompt_images(self, request)
        self._loras.check(request.loras)

    @torch.no_grad()
    def prepare(self, requests: Sequence[Request]) -> list[Row]:
        """Encode prompts and ID images, all of one adapter in one batch, into rows for the sampler.

        Raises:
            RequestError: a request cannot be served.
        """
        for request in requests:
            self.check(request)
        adapters = [self.adapter(request.adapter) for request in requests]
        loras = [self._loras.take(request.loras) for request in requests]
        conditioning: dict[int, Conditioning] = {}
        negatives: dict[int, TextFeatures] = {}
        pairs = [(adapter, taken.text) for adapter, taken in zip(adapters, loras, strict=True)]
        for adapter, text in {(id(adapter), text): (adapter, text) for adapter, text in pairs}.values():
            mine = [i for i, other in enumerate(adapters) if other is adapter and loras[i].text == text]
            terms = adapter.terms if adapter else None
            prompts = [parsed(requests[i], terms, self.class_words) for i in mine]
            with encoding_with(self.base, text):
                made = condition(self.base, adapter, prompts, [requests[i] for i in mine])
                away = negative_texts(self.base, [requests[i] for i in mine])
            for i, value, other in zip(mine, made, away, strict=True):
                conditioning[i], negatives[i] = value, other
        nulls = {id(a): a.conditioner.null_image() if a else None for a in adapters}
        factor, channels, starter = self.base.vae_scale_factor, self.base.latent_channels, Starter(self.base)
        prompting = Prompting(self)
        rows = []
        if any(value.regions is not None for value in conditioning.values()):
            attend_to_images(self.base.unet)
        for i, (request, adapter) in enumerate(zip(requests, adapters, strict=True)):
            width, height = self.size(request)
            plan = plan_for(self.schedule, request)
            at_places = located(conditioning[i], request, (width, height), factor)
            told_of, null_image = prompting.added(request, at_places, nulls[id(adapter)])
            time_ids, negative_ids = told(request, self.base, width, height)
            rows.append(
                Row(
                    conditioning=with_time_ids(told_of, time_ids),
                    negative=negatives[i],
                    negative_time_ids=None if negative_ids is None else torch.tensor([negative_ids]),
                    plan=plan,
                    guidance=request.guidance,
                    guidance_rescale=request.guidance_rescale,
                    guided=guided_steps(request.guidance_start, request.guidance_end, request.steps),
                    cache_interval=request.cache_interval,
                    merge_step=self.merge_step(request),
                    merge_end=self.merge_end(request),
                    find_people=looked_for(request),
                    seed=request.seed,
                    shape=(channels, height // factor, width // factor),
                    lora=adapter.lora if adapter else request.lora,
                    loras=loras[i].unet,
                    null_image=null_image,
                    controls=self.row_controls(request, plan.steps),
                    **starter.fields(request, (width, height)),
                )
            )
        return rows

    def warm_up(self) -> None:
        """Call the U-Net and the VAE once in every form that requests have.

        That makes compiled code and lets a GPU load its kernels: minutes, for which no request then waits.
        """
        warm_up(self)
