"""What differs between families of base models: the kind `family`, of which each family is one file.

Everything else (training, sampling, serving, preprocessing) works on a `BaseModel` and asks its family.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pm.choice import Choice, find_part, part_names
from pm.errors import CheckpointError
from pm.model.files import quiet_loading, read_json, unreadable, weight_variant

if TYPE_CHECKING:  # sizes and fingerprints are looked up by programs that need no torch
    import torch
    from torch import Tensor, nn

    from pm.model.conditioning import Conditioning, TextFeatures

AUTO = "auto"


@dataclass(frozen=True)
class BaseShapes:
    """Sizes of a base, from the configs of its parts."""

    text_width: int  # D, of a token's text feature
    pooled_width: int  # P, of a prompt's summary; 0: the family has none
    max_tokens: int  # L, the length that every prompt is padded to
    latent_channels: int  # C
    latent_size: int  # h and w that the U-Net was trained for
    pixels_per_latent: int  # along a side
    side_multiple: int  # px; the sides of an image must be multiples of this
    scaling_factor: float  # raw VAE latents times this have unit variance: the space the diffusion runs in
    text_layers: int  # of the text encoder that has fewest
    extra_channels: int = 0  # that the denoiser sees beside the noise; C + 1 for inpainting: mask and masked picture


@dataclass(frozen=True)
class Family(Choice, group="family", package="pm.model.families"):
    """A family of base models in the diffusers folder layout. Holds no weights: a `BaseModel` carries both.

    The methods below are what CLIP text encoders, an AutoencoderKL and a U-Net need; a family overrides what it does
    otherwise. Shapes: B rows, L text tokens, T >= L tokens after merging, C x h x w latents.
    """

    name: str

    title: ClassVar[str]  # for messages
    parts: ClassVar[
        Mapping[str, str]
    ]  # folder of every part with weights → library.Class; the order is the fingerprint's
    text_encoders: ClassVar[tuple[str, ...]]  # those of `parts` that encode prompts
    tokenizers: ClassVar[tuple[str, ...]]  # folders, one for each text encoder
    denoiser: ClassVar[str] = "unet"  # the part that carries the LoRA
    takes_clip_skip: ClassVar[bool] = False  # whether `encode` does

    @property
    def lora_prefix(self) -> str:
        """What the published names of the LoRA weights start with, as diffusers writes them."""
        return f"{self.denoiser}."

    def claims(self, index: Mapping[str, Any]) -> bool:
        """Whether a `model_index.json` describes a base of this family."""
        raise NotImplementedError

    def shapes(self, configs: Mapping[str, Mapping[str, Any]]) -> BaseShapes:
        """Sizes, from `config.json` of every part."""
        text, vae, unet = configs[self.text_encoders[0]], configs["vae"], configs[self.denoiser]
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        return BaseShapes(
            text_width=sum(int(configs[name]["hidden_size"]) for name in self.text_encoders),
            pooled_width=0,
            max_tokens=int(text["max_position_embeddings"]),
            latent_channels=int(vae["latent_channels"]),
            latent_size=int(unet["sample_size"]),
            pixels_per_latent=factor,
            side_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
            scaling_factor=float(vae["scaling_factor"]),
            extra_channels=int(unet["in_channels"]) - int(vae["latent_channels"]),
            text_layers=min(int(configs[name]["num_hidden_layers"]) for name in self.text_encoders),
        )

    def load_part(self, folder: Path, part: str, dtype: torch.dtype) -> nn.Module:
        """One of `parts`, from its folder inside the base.

        Raises:
            CheckpointError: damaged, incomplete, or a pickle.
        """
        quiet_loading()
        library, _, name = self.parts[part].partition(".")
        # transformers and diffusers have different names for the argument.
        named = {"dtype" if library == "transformers" else "torch_dtype": dtype}
        try:
            kind = getattr(importlib.import_module(library), name)
            variant = weight_variant(folder / part)
            return kind.from_pretrained(
                folder / part, local_files_only=True, use_safetensors=True, variant=variant, **named
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise unreadable(folder / part, error) from error

    def load_tokenizer(self, folder: Path) -> Any:
        """The tokenizer in `folder`.

        Raises:
            CheckpointError: damaged or incomplete.
        """
        from transformers import CLIPTokenizer

        try:
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise unreadable(folder, error) from error

    def encode(
        self, encoders: Sequence[Any], input_ids: Sequence[Tensor], clip_skip: Sequence[int] | None = None
    ) -> TextFeatures:
        """Text features of token ids.

        Args:
            encoders: the text encoders.
            input_ids: one [B, L] int64 tensor for each encoder.
            clip_skip: last layers that each of the B rows leaves out beyond what the base itself does, where the family
                `takes_clip_skip`; None: 0.
        """
        raise NotImplementedError

    def null_is_zero(self, index: Mapping[str, Any]) -> bool:
        """Whether the base was trained with zeros for an empty prompt; else it is encoded like any other."""
        return False

    def time_ids(
        self, original: tuple[float, float], corner: tuple[float, float], target: tuple[float, float]
    ) -> tuple[float, ...]:
        """What the U-Net is told of a picture's origin besides the text: nothing, unless the family says otherwise.

        Args:
            original: height and width of the photo, in pixels.
            corner: top and left of the crop, in pixels after resizing.
            target: height and width of the image, in pixels.
        """
        return ()

    def noise_process(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """How the base was trained to see noise, in the terms of a diffusers scheduler config (`pm.model.noise`).

        Args:
            config: the base's `scheduler_config.json`.
        """
        return dict(config)

    def added_conditioning(self, conditioning: Conditioning) -> dict[str, Tensor] | None:
        """What the U-Net takes beside the text embeddings."""
        return None

    def predict(
        self, unet: Any, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, *, max_tokens: int
    ) -> Tensor:
        """One call of the U-Net, with or without an adapter in it: [B, C, h, w] at timesteps [B] to [B, C, h, w].

        The mask is passed only when rows are longer than the text (T > L) and some are padded: otherwise it is all
        ones, and attention without a mask takes the faster kernels. Image prompts and regions need a U-Net that knows
        them (`attend_to_images`).
        """
        masked = conditioning.embeds.shape[1] > max_tokens and not conditioning.unpadded
        rules = [rule for rule in (conditioning.image, conditioning.regions) if rule is not None]
        attention = {name: value for rule in rules for name, value in rule.arguments.items()}
        control = {} if conditioning.residuals is None else conditioning.residuals.arguments
        output: Tensor = unet(
            noisy,
            timesteps,
            encoder_hidden_states=conditioning.embeds,
            encoder_attention_mask=conditioning.mask if masked else None,
            added_cond_kwargs=self.added_conditioning(conditioning),
            return_dict=False,
            **({"cross_attention_kwargs": attention} if attention else {}),
            **control,
        )[0]
        return output


def states_before_end(states: Sequence[Tensor], back: int, clip_skip: Sequence[int] | None) -> Tensor:
    """Hidden states [B, L, W] of an encoder, as many layers before its last as each row asks for.

    Args:
        states: of all layers, first to last, [B, L, W] each.
        back: layers that every row leaves out.
        clip_skip: those that row i leaves out beyond.
    """
    if not any(clip_skip or ()):
        return states[-1 - back]
    import torch

    return torch.stack([states[-1 - back - skip][i] for i, skip in enumerate(clip_skip or ())])


def find_family(folder: Path, name: str = AUTO) -> Family:
    """The family of the base in `folder`.

    Args:
        folder: in the diffusers layout.
        name: "auto": what its `model_index.json` says, among our own and all installed families; else a family's name,
            which may be the dotted name of a module.

    Raises:
        CheckpointError: no `model_index.json`, or one of a family that is not supported, or of several.
        ConfigError: no family of that name.
    """
    index = read_json(folder / "model_index.json")
    if name != AUTO:
        return find_part(Family, name, "base.family")(name)
    families = [find_part(Family, each)(each) for each in part_names(Family)]
    claiming = [family for family in families if family.claims(index)]
    if len(claiming) > 1:
        named = ", ".join(f"{family.name} ({family.title})" for family in claiming)
        raise CheckpointError(
            f"base {folder} can be of {len(claiming)} families, {named}: choose one, for example "
            f"base.family={claiming[0].name}"
        )
    if claiming:
        return claiming[0]
    supported = ", ".join(f"{family.name} ({family.title})" for family in families)
    found = f"{index.get('_class_name', 'model of no name')} of {', '.join(parts_of(index)) or 'no parts'}"
    raise CheckpointError(
        f"base {folder} is a {found}; supported are {supported}. For a family of your own set base.family"
    )


def parts_of(index: Mapping[str, Any]) -> list[str]:
    """Names of the parts that a `model_index.json` lists and that are there."""
    return sorted(
        name for name, value in index.items() if not name.startswith("_") and isinstance(value, list) and all(value)
    )


def is_pipeline(index: Mapping[str, Any], *, has: Sequence[str], lacks: Sequence[str] = ()) -> bool:
    """Whether a `model_index.json` lists all parts of `has` and none of `lacks`."""
    there = parts_of(index)
    return all(name in there for name in has) and not any(name in there for name in lacks)
