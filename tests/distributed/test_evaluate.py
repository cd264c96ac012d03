"""Evaluation over workers of Ray: as many as there are, the result is one; a lost one costs its batch."""

import json

import pytest
from support.evaluating import config, folder_of
from support.pool import Doubler

from pm.errors import ConfigError, DataError, PmError
from pm.evaluate.run import evaluate
from pm.tasks import Task, WorkersConfig
from pm.workers import run_tasks

pytestmark = pytest.mark.usefixtures("ray_session")
TWO = WorkersConfig(num=2, threads=1)


def test_tasks_follow_their_order_on_two_workers_and_a_lost_worker_costs_one(tmp_path, capsys):
    (tmp_path / "fatal").touch()
    results, order = {}, []

    def done(key):
        return lambda found: (order.append(key), results.update({key: found}))

    tasks = [
        Task("last", "double", lambda: (sum(results[str(i)][0] for i in range(4)),), done("last"),
             frozenset(map(str, range(4)))),
        *(Task(str(i), "slow", lambda i=i: (i,), done(str(i))) for i in range(4)),
        Task("lost", "double", lambda: (7, str(tmp_path / "fatal")), done("lost")),
    ]  # fmt: skip
    run_tasks(Doubler, tasks, TWO)
    assert {key: value for key, (value, _) in results.items()} == {
        **{str(i): 2 * i for i in range(4)}, "lost": 14, "last": 24
    }  # fmt: skip
    assert order.index("last") > max(order.index(str(i)) for i in range(4))
    assert len({process for _, process in results.values()}) >= 2
    assert "a worker was lost; lost is done again" in capsys.readouterr().out


def test_a_users_mistake_is_told_as_it_is_and_a_worker_is_not_lost_for_ever():
    with pytest.raises(DataError, match="^no such photo; give another$"):
        run_tasks(Doubler, [Task("refused", "refuse", tuple, print)], TWO)
    with pytest.raises(PmError, match="gone: its worker was lost 3 times.*workers.num"):
        run_tasks(Doubler, [Task("gone", "always_lost", tuple, print)], TWO)
    with pytest.raises(ConfigError, match="workers.num=99, but there are"):
        run_tasks(Doubler, [Task("many", "double", lambda: (1,), print)], WorkersConfig(num=99, threads=1))


def test_one_worker_and_two_make_the_same_pictures_and_values(tiny_base, tmp_path):
    folder = folder_of(tiny_base, tmp_path, names=("one",))
    found = {}
    for count in (1, 2):
        output = folder / f"workers{count}"
        evaluate(config(tiny_base, folder, f"output={output}", "sampler.batch_size=3", f"workers.num={count}"))
        report = json.loads((output / "report.json").read_text())
        pictures = {p.relative_to(output).as_posix(): p.read_bytes() for p in (output / "pictures").rglob("*.png")}
        found[count] = pictures, [row["metrics"] for row in (report["floor"], *report["rows"], report["ceiling"])]
    assert found[1] == found[2] and len(found[1][0]) == 16
