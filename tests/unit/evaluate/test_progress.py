from types import SimpleNamespace

from pm.evaluate import progress
from pm.evaluate.progress import Line


def test_the_line_says_how_many_how_fast_and_until_when(capsys, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    line = Line("PhotoMaker", total=100, done=20)  # of an earlier run, which says nothing of the speed now
    line.begin()
    clock.now += 40
    line.add(20)
    clock.now += 1
    line.add(10)  # too soon for a log
    clock.now += 59
    line.add(50)
    said = [text.rstrip() for text in capsys.readouterr().out.splitlines()]
    assert said == [
        "PhotoMaker: 20/100 pictures",
        "PhotoMaker: 40/100 pictures, 2.00 s each, ready in 0:02:00",
        "PhotoMaker: 100/100 pictures, 1.25 s each, 0:01:40 in all",
    ]
    Line("base alone", total=4, done=4)
    assert "4 pictures are there already" in capsys.readouterr().out
