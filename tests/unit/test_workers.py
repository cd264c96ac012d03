"""Tasks in this process; on Ray they are tested in tests/distributed/test_evaluate.py."""

import pytest
from support.pool import Doubler

from pm.errors import DataError
from pm.tasks import Task, WorkersConfig, batches
from pm.workers import run_tasks

HERE = WorkersConfig(num=0, threads=1)


def test_tasks_wait_for_those_that_they_name_and_get_what_these_left():
    found, order = {}, []

    def done(key):
        return lambda result: (order.append(key), found.update({key: result[0]}))

    tasks = [
        Task("sum", "double", lambda: (found["a"] + found["b"],), done("sum"), frozenset({"a", "b"})),
        Task("a", "double", lambda: (1,), done("a")),
        Task("b", "double", lambda: (10,), done("b")),
    ]
    run_tasks(Doubler, tasks, HERE)
    assert order == ["a", "b", "sum"] and found["sum"] == 2 * (2 + 20)


def test_no_worker_is_made_for_nothing_and_mistakes_pass():
    run_tasks(pytest.fail, [], HERE)
    with pytest.raises(DataError, match="no such photo"):
        run_tasks(Doubler, [Task("refused", "refuse", tuple, print)], HERE)


def test_batches_are_the_same_whatever_is_done():
    assert batches([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
