"""The model: id encoder + U-Net with LoRA, one nn.Module = one DeepSpeed engine."""

from typing import Any

import torch
from torch import Tensor, nn

from pm.model.base import BaseModel, encode_text
from pm.model.conditioner import Conditioner
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.config import ID_PREFIX, LORA_PREFIX, AdapterConfig
from pm.model.id_encoder import IdEncoder, build_id_encoder
from pm.model.lora import add_lora, lora_parameters
from pm.model.merge import class_features, insert_tokens, owner_of_each, repeat_class_tokens, replace_tokens
from pm.model.prompt import tokenize
from pm.model.trained import TrainedAdapter


class IdConditioner(Conditioner):
    """The half of the model that turns ID images and text into conditioning; it knows no U-Net.

    Shapes: B rows, M ID images of all rows together (ragged, `id_counts` [B]), L text tokens, D text width, P pooled
    width, S the vision tower's input side.
    """

    tokens_per_photo = 1  # that the id encoder makes of each photo, before they are composed

    def __init__(self, base: BaseModel, config: AdapterConfig, vision_config: dict[str, Any] | None = None) -> None:
        """Build the id encoder for a base.

        Args:
            base: its text encoders are used with `merge=repeat`.
            config: what to compose and merge.
            vision_config: shape of the vision tower when an adapter will fill it in; default: load it, pre-trained,
                from `base.vision_path`.

        Raises:
            CheckpointError: the vision tower cannot be loaded or does not fit the base.
        """
        super().__init__()
        self.base, self.config = base, config
        self.repeat = config.merge == "repeat"
        self.id_encoder = self.new_encoder(vision_config)

    def new_encoder(self, vision_config: dict[str, Any] | None) -> IdEncoder:
        """The id encoder that the constructor asks for, before anything but `base` and `config` is there."""
        base, config = self.base, self.config
        return build_id_encoder(
            base.text_width,
            config.compose,
            config.max_id_images,
            vision_path=base.vision_path,
            vision_config=vision_config,
        )

    @property
    def trigger_word(self) -> str:
        return self.config.trigger_word

    @property
    def max_id_images(self) -> int:
        return self.config.max_id_images

    @property
    def image_size(self) -> int:
        return self.id_encoder.image_size

    @property
    def embed_dtype(self) -> torch.dtype:
        return self.id_encoder.visual_projection.weight.dtype

    def embed(self, pixels: Tensor, faces: Tensor | None = None) -> Tensor:
        """e_i of each photo, [M, D]."""
        return self.id_encoder.embed(pixels, faces)

    def condition(
        self,
        text: TextFeatures,
        class_index: Tensor,
        id_pixels: Tensor | None,
        id_counts: Tensor,
        time_ids: Tensor,
        *,
        weights: Tensor | None = None,
        plain: TextFeatures | None = None,
        id_embeds: Tensor | None = None,
        scale: Tensor | None = None,
        most_photos: int | None = None,
    ) -> Conditioning:
        """Merge the identities of B rows into their text (paper section 3.2, eq. 1-2).

        A photo's weight moves its token from c (0) through itself (1) beyond. With `merge=repeat` the plain twin, the
        features of the unrepeated prompt, must be given. `most_photos`: the largest of `id_counts`, where the host
        knows it; else it is read from the device.
        """
        plain = plain or text
        seen = id_pixels if id_embeds is None else id_embeds
        if seen is None:
            raise ValueError("neither id_pixels nor id_embeds is given")
        counts = self.tokens_of_each(id_counts)
        most = None if most_photos is None else self.config.compose.tokens(self.tokens_per_photo * most_photos)
        total = self.config.compose.tokens(self.tokens_per_photo * seen.shape[0], len(id_counts))
        c = class_features(text.embeds, class_index, counts, total, self.repeat)
        fuse = self.id_encoder if id_embeds is None else self.id_encoder.fuse
        tokens = fuse(seen, id_counts, c, weights)
        if self.repeat:
            embeds = replace_tokens(text.embeds, class_index, tokens, counts, most)
            mask = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
        else:
            embeds, mask = insert_tokens(text.embeds, class_index, tokens, counts, most)
        return Conditioning(embeds, mask, text.pooled, time_ids, plain.embeds, plain.pooled)

    def tokens_of_each(self, id_counts: Tensor) -> Tensor:
        """Identity tokens of each row, [B] int64, from its number of photos [B]."""
        return self.config.compose.tokens_of_each(self.tokens_per_photo * id_counts)

    def owner_of_each(self, owner: Tensor, class_index: Tensor, id_counts: Tensor, person: int) -> Tensor:
        return owner_of_each(owner, class_index, self.tokens_of_each(id_counts), person, self.repeat)

    def repeat_ids(
        self, ids: tuple[Tensor, ...], class_index: Tensor, id_counts: Tensor, *, truncate: bool = False
    ) -> tuple[Tensor, ...]:
        """Token ids [B, L] of every tokenizer, each row's class token repeated, for `merge=repeat` (CPU tensors)."""
        counts = self.tokens_of_each(id_counts)
        return tuple(
            repeat_class_tokens(i, class_index, counts, tokenizer.eos_token_id, truncate=truncate)
            for i, tokenizer in zip(ids, self.base.tokenizers, strict=True)
        )


class PhotoMaker(IdConditioner, TrainedAdapter):
    """Condition the frozen U-Net on text merged with a stack of ID images.

    Shapes as in `IdConditioner`, and C x h x w latents.
    """

    kind = "photomaker"

    def __init__(self, base: BaseModel, config: AdapterConfig, vision_config: dict[str, Any] | None = None) -> None:
        """Put LoRA into `base.unet` (in place) and build the id encoder beside it.

        Args:
            base: loaded with its U-Net; with `merge=repeat` also with its text encoders.
            config: what to compose, merge and train.
            vision_config: as in `IdConditioner`.

        Raises:
            CheckpointError: a part of the base is not loaded, or its U-Net already carries an adapter.
        """
        super().__init__(base, config, vision_config)
        self.attach(base)
        self.id_encoder.freeze_below(config.train_layers)
        self.change_unet()
        # Only `repeat` encodes captions again in training; registered so that they move with the module.
        self.text_encoders = nn.ModuleList(base.text_encoders) if self.repeat and base.text_encoders else None
        if config.gradient_checkpointing:
            self.enable_gradient_checkpointing()

    def change_unet(self) -> None:
        """Make the U-Net's trained part; the rest of it is frozen."""
        config = self.config
        add_lora(self.unet, config.lora_rank, config.lora_targets, config.lora_impl, config.lora_type)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations of the U-Net and the vision tower in the backward pass: less memory, more time."""
        self.unet.enable_gradient_checkpointing()
        self.id_encoder.vision_model.activation_checkpointing_enable({"use_reentrant": False})

    def forward(self, noisy: Tensor, timesteps: Tensor, batch: Any) -> Any:
        """Condition and predict in one call, for training.

        Args:
            noisy: [B, C, h, w].
            timesteps: [B].
            batch: `pm.data.loading.batches.Batch`, on this module's device.

        Returns:
            the U-Net's output [B, C, h, w].
        """
        text = self._training_text(batch)
        conditioning = self.condition(
            text,
            batch.class_index,
            batch.id_pixels,
            batch.id_counts,
            batch.time_ids,
            most_photos=getattr(batch, "most_photos", None),
        )
        return self.predict(noisy, timesteps, self.drop_rows(conditioning, batch.drop_text))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters: the paper gives LoRA 1e-4 and the id encoder 1e-5 (section 4.1)."""
        return {
            "lora": list(lora_parameters(self.unet, self.base.family.lora_prefix).values()),
            "id_encoder": [p for p in self.id_encoder.parameters() if p.requires_grad],
        }

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        encoder = {ID_PREFIX + name: p for name, p in self.id_encoder.named_parameters()}
        prefix = self.base.family.lora_prefix
        return encoder | {LORA_PREFIX + name: p for name, p in lora_parameters(self.unet, prefix).items()}

    def about(self) -> dict[str, Any]:
        return {
            "compose": self.config.compose,
            "merge": self.config.merge,
            "vision_config": self.id_encoder.vision_config,
        }

    def _training_text(self, batch: Any) -> TextFeatures:
        if not self.repeat or getattr(batch, "repeated", False):
            return TextFeatures(batch.embeds, batch.pooled)
        ids = tokenize(self.base.tokenizers, batch.captions)
        if getattr(batch, "photos", ()):
            index, counts = torch.tensor(batch.words), torch.tensor(batch.photos)
        else:  # waits for what is queued on a GPU
            index, counts = batch.class_index.cpu(), batch.id_counts.cpu()
        repeated = self.repeat_ids(ids, index, counts, truncate=True)
        return encode_text(self.base, repeated).to(batch.embeds)
