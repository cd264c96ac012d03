"""What to do when a worker's GPU runs out of memory."""

from pathlib import Path

from pm.errors import ConfigError
from pm.files import write_text
from pm.train.run.config import RunConfig
from pm.train.run.context import TrainContext

MARK = ".out-of-memory"


class OutOfMemory:
    """Settings that ask for too much would do so again; after an elastic restart it may be the workers before.

    Their processes may still hold memory, on the same cards, when the new ones load. So such a run is started once more
    from the same checkpoint, and ends when that fails too.
    """

    def __init__(self, config: RunConfig, context: TrainContext) -> None:
        self._config, self._context = config, context
        self._mark = context.run_dir / f"{MARK}-{context.rank}"
        # Read before anything can fail: other workers run out of memory at the same moment.
        self._before = _step(self._mark)
        self.resumed_at: int | None = None  # step of the checkpoint; None: a new run

    def judged(self, error: Exception) -> Exception:
        """The error to raise: one that Ray Train answers with a restart, or a `ConfigError`, which ends the run."""
        elastic = self._config.workers.min is not None
        if elastic and self.resumed_at is not None and self._before != self.resumed_at:
            write_text(self._mark, str(self.resumed_at), sync=False)
            return RuntimeError(f"out of GPU memory after a restart; trying once more ({error})")
        samples = self._config.train.micro_batch(self._context.workers)
        return ConfigError(
            f"out of GPU memory with {samples} samples a forward pass; lower train.micro_batch_size, or use "
            "adapter.gradient_checkpointing=true, engine=zero3 or engine=zero3_offload"
        )


def _step(mark: Path) -> int | None:
    try:
        return int(mark.read_text())
    except (OSError, ValueError):
        return None
