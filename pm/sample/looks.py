"""Whether rows are still finite, asked of a device without waiting for it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pm.model import lines


class Look:
    """One step of some rows, on its way to the host."""

    def __init__(self, step: int, positions: Mapping[int, int], finite: Tensor) -> None:
        """Ask.

        Args:
            step: of the sampler.
            positions: of each row, by its key: the step of its own plan.
            finite: [B] bool, of these rows.
        """
        self.step, self.positions = step, positions
        self._flags, self._event = finite, None
        if lines.queued(finite.device):
            self._flags = torch.empty(finite.shape, dtype=torch.bool, pin_memory=True)
            self._flags.copy_(finite, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    @property
    def there(self) -> bool:
        """Whether `broken` would not wait; other accelerators than CUDA are always waited for."""
        return self._event is None or self._event.query()

    def broken(self) -> set[int]:
        """Keys of the rows that are not finite; waits for the step to be computed."""
        if self._event is not None:
            self._event.synchronize()
        return {key for key, fine in zip(self.positions, self._flags.tolist(), strict=True) if not fine}
