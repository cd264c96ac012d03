"""Text features in and out of the published interface: those a caller gives, and those that it may ask for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pm.errors import RequestError
from pm.model.conditioning import TextFeatures
from pm.sample.given import GivenText, class_mask, class_places
from pm.sample.prepare import encode_for_place, negative_text, plain_text
from pm.sample.published_call import Call, for_each, listed
from pm.sample.request import Request

_PAIRS = (
    ("prompt_embeds", "pooled_prompt_embeds"),
    ("negative_prompt_embeds", "negative_pooled_prompt_embeds"),
    ("prompt_embeds_text_only", "pooled_prompt_embeds_text_only"),
)


def given_texts(call: Call, pooled_width: int) -> tuple[int, list[dict[str, Any]]]:
    """How many prompts a call has, and the fields of `Request` for the text features that it gives, for each of them.

    Raises:
        RequestError: neither prompts nor features are given, or both, or features without what belongs to them.
    """
    if call.prompt_embeds is not None and (call.prompt is not None or call.prompt_2 is not None):
        raise RequestError("both prompt and prompt_embeds are given; give one of them")
    features = {name: _features(call, name, pooled, pooled_width) for name, pooled in _PAIRS}
    text, negative, plain = features.values()
    if call.class_tokens_mask is not None and text is None:
        raise RequestError("class_tokens_mask says where the class word is in prompt_embeds; give those, too")
    if negative is not None and call.negative_prompt is not None:
        raise RequestError("both negative_prompt and negative_prompt_embeds are given; give one of them")
    count = len(text.embeds) if text is not None else len(listed(call.prompt))
    places = _places(call, count)
    for name, value in features.items():
        if value is not None and len(value.embeds) not in (1, count):
            raise RequestError(f"{name} has {len(value.embeds)} rows for {count} prompts; give one, or {count}")
    own = []
    for i in range(count):
        row = {name: None if v is None else v.rows([i % len(v.embeds)]) for name, v in features.items()}
        fields: dict[str, Any] = {"negative_text": row["negative_prompt_embeds"]}
        if text is not None or plain is not None:
            fields["text"] = GivenText(row["prompt_embeds"], row["prompt_embeds_text_only"], places[i])
        own.append(fields)
    return count, own


class PublishedText:
    """The methods that encode prompts."""

    @torch.no_grad()
    def encode_prompt(
        self: Any,
        prompt: Any = None,
        prompt_2: Any = None,
        device: Any = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: Any = None,
        negative_prompt_2: Any = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Text features of prompts without a person, as diffusers' SDXL pipeline gives them.

        Args:
            prompt: one, or B.
            prompt_2: for the second text encoder.
            device: of the result; None: the base's.
            num_images_per_prompt: rows for each prompt.
            do_classifier_free_guidance: False: no negative ones are made.
            negative_prompt: one, or B; None: the base's null text.
            negative_prompt_2: for the second text encoder.
            prompt_embeds: given back, instead of a prompt; likewise the next three.
            negative_prompt_embeds: see `prompt_embeds`.
            pooled_prompt_embeds: see `prompt_embeds`.
            negative_pooled_prompt_embeds: see `prompt_embeds`.
            lora_scale: must be None: LoRAs of text encoders are those of `set_adapters`, at their strengths.
            clip_skip: layers that the prompt leaves out.

        Returns:
            embeddings [K, T, D], those of the negative prompt, pooled ones [K, P], and theirs.
        """
        if lora_scale is not None:
            raise RequestError("lora_scale is not taken here; set strengths with set_adapters([...], [...])")
        given = {"prompt": prompt, "prompt_embeds": prompt_embeds, "pooled_prompt_embeds": pooled_prompt_embeds}
        given |= {"negative_prompt_embeds": negative_prompt_embeds, "prompt_2": prompt_2}
        given |= {"negative_pooled_prompt_embeds": negative_pooled_prompt_embeds, "clip_skip": clip_skip}
        away = {"negative_prompt": negative_prompt, "negative_prompt_2": negative_prompt_2}
        call = Call.of((), given | (away if negative_prompt_embeds is None else {}))
        texts, negatives = self._encoded(call, do_classifier_free_guidance)
        return _repeated(texts, negatives, num_images_per_prompt, device or self.base.unet.device)

    def _encoded(self: Any, call: Call, guided: bool) -> tuple[list[TextFeatures], list[TextFeatures]]:
        """Features of each prompt of a call, and of what guidance moves away from."""
        count, own = given_texts(call, self.base.pooled_width)
        seconds, away, others = (
            for_each(name, getattr(call, name), count) for name in ("prompt_2", "negative_prompt", "negative_prompt_2")
        )
        texts, negatives = [], []
        with self._encoding():
            for i, fields in enumerate(own):
                given, bad = fields.get("text"), fields["negative_text"]
                text = given.text if given else None
                if text is None:
                    text = plain_text(self.base, listed(call.prompt)[i], seconds[i], call.clip_skip or 0)
                texts.append(text)
                if guided:
                    negatives.append(bad if bad is not None else negative_text(self.base, away[i], others[i]))
        return texts, negatives

    @torch.no_grad()
    def encode_prompt_with_trigger_word(
        self: Any,
        prompt: str,
        prompt_2: str | None = None,
        device: Any = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | None = None,
        negative_prompt_2: str | None = None,
        clip_skip: int | None = None,
        num_id_images: int = 1,
        **refused: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
        """Text features of a prompt with the trigger word, before the identity is put in, as V2's method gives them.

        Args:
            prompt: one.
            prompt_2: for the second text encoder.
            device: of the result; None: the base's.
            num_images_per_prompt: rows of the result, but for the embeddings [1, T, D], as published.
            do_classifier_free_guidance: False: no negative ones are made.
            negative_prompt: None: the base's null text.
            negative_prompt_2: for the second text encoder.
            clip_skip: layers that the prompt leaves out.
            num_id_images: photos that it shall be used with.
            refused: nothing else is taken.

        Returns:
            as `encode_prompt`, and the mask [1, T] of the tokens where the identity goes.
        """
        if refused:
            raise RequestError(f"{next(iter(refused))} is not taken here; give it to the call of the pipeline")
        adapter = self.adapter()
        if adapter is None:
            raise RequestError("no adapter is loaded, so there is no trigger word; use encode_prompt")
        request = Request(prompt, prompt_2=prompt_2, clip_skip=clip_skip or 0, any_class_word=True)
        with self._encoding():
            text, places = encode_for_place(self.base, adapter, request, num_id_images)
            away = [negative_text(self.base, negative_prompt, negative_prompt_2)] if do_classifier_free_guidance else []
        embeds, negative, pooled, negative_pooled = _repeated(
            [text], away, num_images_per_prompt, device or self.base.unet.device
        )
        mask = class_mask(places, embeds.shape[1])[None].to(embeds.device)
        return embeds[:1], negative, pooled, negative_pooled, mask


def _features(call: Call, name: str, pooled: str, width: int) -> TextFeatures | None:
    embeds, summary = getattr(call, name), getattr(call, pooled)
    if embeds is None:
        if summary is not None:
            raise RequestError(f"{pooled} is given without {name}; give both")
        return None
    embeds = _tensor(name, embeds, 3)
    if summary is None and width:
        raise RequestError(f"{name} is given without {pooled}, which this base needs; give both")
    summary = embeds.new_zeros(len(embeds), 0) if summary is None else _tensor(pooled, summary, 2)
    if len(summary) != len(embeds):
        raise RequestError(f"{name} has {len(embeds)} rows and {pooled} {len(summary)}; give as many")
    return TextFeatures(embeds, summary)


def _tensor(name: str, value: Any, axes: int) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim != axes or not value.is_floating_point() or len(value) == 0:
        raise RequestError(f"{name} must be a tensor {['[B, P]', '[B, T, D]'][axes - 2]} of floating-point numbers")
    return value


def _places(call: Call, count: int) -> list[tuple[int, ...]]:
    if call.class_tokens_mask is None:
        return [()] * count
    mask = torch.as_tensor(call.class_tokens_mask)
    if mask.ndim == 2 and len(mask) == count:
        return [class_places(row) for row in mask]
    return [class_places(mask)] * count


def _repeated(
    texts: Sequence[TextFeatures], away: Sequence[TextFeatures], images: int, device: Any
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    def rows(parts: Sequence[TextFeatures], name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return torch.cat(values).repeat_interleave(images, 0).to(device) if values else None

    embeds, pooled = rows(texts, "embeds"), rows(texts, "pooled")
    assert embeds is not None and pooled is not None
    return embeds, rows(away, "embeds"), pooled, rows(away, "pooled")
