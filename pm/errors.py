"""Errors that are a user's to fix.

Every one names the thing, the offending value and the way out. Entry points print them as a single line and
exit with status 1; anything that is not a `PmError` is a defect of ours and keeps its traceback.
"""


class PmError(Exception):
    """Base of every error a user can fix."""


class ConfigError(PmError):
    """A setting is unknown, missing, of the wrong type, or contradicts another one."""


class DataError(PmError):
    """Photos or a dataset are missing, unreadable, empty, or made for something else."""


class CheckpointError(PmError):
    """A base model, adapter or training checkpoint is missing, damaged or does not fit."""


class RequestError(PmError):
    """A prompt, a set of ID images or a sampling setting cannot be served."""


class Interrupted(PmError):
    """A run was asked to stop before its end; the same command goes on from where it saved itself."""


def reason(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing: for the brackets of our own messages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
