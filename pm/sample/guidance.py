"""What is done to classifier-free guidance beyond its scale."""

from torch import Tensor


def rescaled(guided: Tensor, conditional: Tensor, shares: Tensor) -> Tensor:
    """Give guided outputs the contrast of the conditional ones (Lin et al. 2024, section 3.4, eq. 15-16).

    Args:
        guided: [B, C, h, w].
        conditional: what the U-Net said with the prompt, [B, C, h, w].
        shares: [B], of the rescaled output in each row's; 0: the guided as it is.

    Returns:
        [B, C, h, w].
    """
    axes = tuple(range(1, guided.ndim))
    factor = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    share = shares.view(-1, *[1] * len(axes))
    return (guided * (1 - share + share * factor)).where(share > 0, guided)
