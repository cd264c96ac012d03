"""An image prompt: keys and values beside those of the text, in every cross-attention layer of the U-Net.

Decoupled cross-attention (IP-Adapter, Ye et al. 2023, eq. 5): Z = Attention(Q, K, V) + scale * Attention(Q, K', V'). K'
and V' depend on the photos alone, neither on the latents nor on the timestep, so they are made once for an image and
travel with its row. The U-Net itself is given no weights, only a rule how to attend, which changes nothing for rows
without an image prompt: rows with and without, of different people, scales and adapters share one call.

Shapes: B rows, K image tokens (padded to the longest row), C_i width of the attention in layer i.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pm.model.regions import Regions


@dataclass(frozen=True)
class ImagePrompt:
    """What B rows attend to beside the text; a row of which `mask` is False has no image prompt."""

    keys: tuple[Tensor, ...]  # of each cross-attention layer in the U-Net's own order, [B, K, C_i]
    values: tuple[Tensor, ...]  # likewise
    mask: Tensor  # [B, K] bool, True = attend; padding is at the end
    scale: Tensor  # [B] float32; 0 is the base

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the U-Net's attention; by this name diffusers passes it to the layers that know it, and to no other."""
        return {"ip_hidden_states": self}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ImagePrompt":
        """Move to `device`; cast keys and values to `dtype`."""
        keys, values = (tuple(t.to(device, dtype) for t in each) for each in (self.keys, self.values))
        return ImagePrompt(keys, values, self.mask.to(device), self.scale.to(device))

    def rows(self, index: Any) -> "ImagePrompt":
        """Select rows by a slice, a list of integers or an index tensor; the batch axis and the padding stay."""
        keys, values = (tuple(t[index] for t in each) for each in (self.keys, self.values))
        return ImagePrompt(keys, values, self.mask[index], self.scale[index])

    def trimmed(self) -> "ImagePrompt":
        """Drop the columns that no row attends to."""
        length = int(self.mask.any(0).sum())
        keys, values = (tuple(t[:, :length] for t in each) for each in (self.keys, self.values))
        return ImagePrompt(keys, values, self.mask[:, :length], self.scale)

    def padded(self, length: int) -> "ImagePrompt":
        """Pad K to `length` with masked zeros."""
        extra = length - self.mask.shape[1]
        keys, values = (tuple(F.pad(t, (0, 0, 0, extra)) for t in each) for each in (self.keys, self.values))
        return ImagePrompt(keys, values, F.pad(self.mask, (0, extra), value=False), self.scale)

    @staticmethod
    def concat(items: "Sequence[ImagePrompt | None]", rows: Sequence[int]) -> "ImagePrompt | None":
        """Stack along the batch axis; None stands for so many `rows` without an image prompt."""
        known = next((item for item in items if item is not None), None)
        if known is None:
            return None
        length = max(item.mask.shape[1] for item in items if item is not None)
        parts = [
            (known.rows(slice(0, 0)).empty(count) if item is None else item).padded(length)
            for item, count in zip(items, rows, strict=True)
        ]
        layers = range(len(known.keys))
        return ImagePrompt(
            tuple(torch.cat([part.keys[i] for part in parts]) for i in layers),
            tuple(torch.cat([part.values[i] for part in parts]) for i in layers),
            torch.cat([part.mask for part in parts]),
            torch.cat([part.scale for part in parts]),
        )

    def empty(self, rows: int) -> "ImagePrompt":
        """So many rows without an image prompt, for the same U-Net."""
        keys, values = (tuple(t.new_zeros(rows, 0, t.shape[2]) for t in each) for each in (self.keys, self.values))
        return ImagePrompt(keys, values, self.mask.new_zeros(rows, 0), self.scale.new_zeros(rows))


class ImageAttention:
    """How a cross-attention layer attends to text, of several people each at their place, and to an image prompt.

    Without these, as diffusers' own processor.

    For the attention of transformer blocks: tokens [B, N, C], no group or spatial norm.
    """

    def __init__(self, layer: int) -> None:
        """`layer`: its number among the U-Net's cross-attention layers."""
        self.layer = layer

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: ImagePrompt | None = None,
        ip_adapter_masks: Regions | None = None,
    ) -> Tensor:
        """`hidden_states` [B, N, C] attend to `encoder_hidden_states` [B, T, D]; the names are diffusers' own."""
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, text.shape[1], text.shape[0])
            attention_mask = attention_mask.view(text.shape[0], attn.heads, -1, attention_mask.shape[-1])
        query = _heads(attn.to_q(hidden_states), attn.heads)
        key, value = (_heads(project(text), attn.heads) for project in (attn.to_k, attn.to_v))
        if ip_adapter_masks is not None:
            bias = ip_adapter_masks.bias(query.shape[2], query)
            attention_mask = bias if attention_mask is None else attention_mask + bias
            for watch in ip_adapter_masks.watches:
                watch.see(query, key, attention_mask, attn.scale)
        attended = _joined(self.attend(attn, query, key, value, attention_mask))
        if ip_hidden_states is not None:
            attended = attended + self._image(query, ip_hidden_states, attn.heads)
        output: Tensor = attn.to_out[1](attn.to_out[0](attended.to(query.dtype)))
        if attn.residual_connection:
            output = output + hidden_states
        return output / attn.rescale_output_factor

    def attend(self, attn: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attention to the text: [B, heads, N, C] from queries, keys and values of that form."""
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def _image(self, query: Tensor, prompt: ImagePrompt, heads: int) -> Tensor:
        """scale * Attention(Q, K', V'), [B, N, C]; zeros for rows without an image prompt."""
        key, value = (_heads(each[self.layer].to(query.dtype), heads) for each in (prompt.keys, prompt.values))
        # A row with nothing to attend to would be NaN; it sees its padding, which is zero, and counts nothing.
        mask = (prompt.mask | ~prompt.mask.any(1, keepdim=True))[:, None, None, :]
        seen = _joined(F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
        return prompt.scale.to(seen.dtype)[:, None, None] * seen


def cross_attention_layers(unet: Any) -> dict[str, Any]:
    """The U-Net's cross-attention modules by name, in its own order, which numbers the published weights."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return {name: unet.get_submodule(name) for name in names if name.endswith("attn2")}


def attend_to_images(unet: Any) -> None:
    """Teach a U-Net to take image prompts and regions. Rows without one stay as they are; once is enough."""
    for number, module in enumerate(cross_attention_layers(unet).values()):
        if not isinstance(module.processor, ImageAttention):
            module.set_processor(ImageAttention(number))


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
