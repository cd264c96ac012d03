"""What every kind of adapter has in common once its weights are there: photos and text to conditioning."""

import torch
from torch import Tensor, nn

from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.image_prompt import ImagePrompt


class Conditioner(nn.Module):
    """The half of an adapter that knows no U-Net. Sampling, serving and training know adapters by this interface.

    Shapes: B rows, M photos of all rows together (ragged, `id_counts` [B]), L text tokens, D text width.
    """

    repeat: bool = False  # the class word is repeated for each identity token before the text encoders

    @property
    def trigger_word(self) -> str:
        raise NotImplementedError

    @property
    def max_id_images(self) -> int:
        raise NotImplementedError

    @property
    def image_size(self) -> int:
        """Side of the pixels that `embed` takes."""
        raise NotImplementedError

    @property
    def embed_dtype(self) -> torch.dtype:
        """Of what `embed` takes and gives."""
        raise NotImplementedError

    @property
    def face_width(self) -> int | None:
        """E, of the face embeddings that `embed` takes beside the pixels; None: it takes none."""
        return None

    def embed(self, pixels: Tensor, faces: Tensor | None = None) -> Tensor:
        """What is known of each photo alone: [M, ...].

        Args:
            pixels: [M, 3, S, S], normalised as CLIP does.
            faces: [M, E], an embedding of each photo's face, where the kind takes them.
        """
        raise NotImplementedError

    def repeat_ids(
        self, ids: tuple[Tensor, ...], class_index: Tensor, id_counts: Tensor, *, truncate: bool = False
    ) -> tuple[Tensor, ...]:
        """Token ids [B, L] of every tokenizer, each row's class token repeated, where `repeat` is set."""
        raise NotImplementedError

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
    ) -> Conditioning:
        """Text and photos of B rows to what the U-Net is told.

        Args:
            text: embeds [B, L, D], pooled [B, P]; where `repeat` is set, of the ids that `repeat_ids` made.
            class_index: [B] int64, the class word's token (the first, when repeated).
            id_pixels: [M, 3, S, S], normalised as CLIP does; a row's images are contiguous.
            id_counts: [B] int64, 1 ... N_max images of each row.
            time_ids: [B, Q].
            weights: [M], how much each photo counts, where the kind `weighs_photos`; None: 1.
            plain: the text-only twin; default `text`.
            id_embeds: what `embed` made of `id_pixels`, which may then be None.
            scale: [B], of the image prompt, where the kind `has_scale`; None: the adapter's own.
        """
        raise NotImplementedError

    def owner_of_each(self, owner: Tensor, class_index: Tensor, id_counts: Tensor, person: int) -> Tensor:
        """Whose each token is after `condition` put a person into the text: [B, T] int8 of [B, L]; 0: nobody's."""
        return owner

    def null_image(self) -> ImagePrompt | None:
        """What guidance moves away from beside the text, for one row; None: nothing."""
        return None
