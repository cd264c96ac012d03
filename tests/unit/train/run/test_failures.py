"""The user's error behind a failed run, whoever reports it."""

from types import SimpleNamespace

from pm.errors import DataError
from pm.train.run.failures import cause, no_retry_of_users_errors


class Failed(Exception):
    def __init__(self, controller=None, workers=None):
        super().__init__("training failed")
        self.controller_failure, self.worker_failures = controller, workers or {}


def test_a_users_error_is_found_among_the_workers_timeouts():
    wrapped = SimpleNamespace(_base_exc=DataError("part is damaged"))
    error = cause(Failed(workers={0: TimeoutError("others gone"), 1: wrapped}))
    assert isinstance(error, DataError) and str(error) == "part is damaged"


def test_a_users_error_is_found_behind_the_controller():
    error = DataError("part is damaged")
    assert cause(Failed(controller=Failed(controller=error))) is error


def test_a_defect_stays_what_it_is():
    failed = Failed(workers={0: ValueError("a defect")})
    assert cause(failed) is failed


def test_only_a_users_error_ends_the_run_without_a_retry():
    callback = no_retry_of_users_errors()
    callback.after_exception(None, {0: ValueError("a defect"), 1: TimeoutError()})  # Ray tries again
    try:
        callback.after_exception(None, {0: TimeoutError(), 1: DataError("part is damaged")})
    except DataError as error:
        assert str(error) == "part is damaged"
    else:
        raise AssertionError("it would be tried again")
