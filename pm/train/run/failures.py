"""Whose fault it was that workers failed: a user's error ends a run, everything else is tried again."""

from collections.abc import Mapping
from typing import Any

from pm.errors import PmError


def no_retry_of_users_errors() -> Any:
    """A Ray Train callback that ends the run when a worker has raised a `PmError`: it would come again."""
    import ray.train

    class NoRetry(ray.train.UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
            error = _users_error(worker_exceptions)
            if error is not None:
                raise error

    return NoRetry()


def cause(error: Exception) -> Exception:
    """The user's error behind a failed run, else the failure itself."""
    inner = getattr(error, "controller_failure", None)
    while inner is not None and not isinstance(inner, PmError):
        inner = getattr(inner, "controller_failure", None)
    return inner or _users_error(getattr(error, "worker_failures", {})) or error


def _users_error(failures: Mapping[int, Exception]) -> PmError | None:
    """When one worker fails, the others fail too, waiting for it; the `PmError` is the reason, not their timeouts."""
    for failure in failures.values():
        inner = getattr(failure, "_base_exc", failure)
        if isinstance(inner, PmError):
            return inner
    return None
