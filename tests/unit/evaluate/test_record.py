from dataclasses import dataclass

from support.evaluation import row_of, true_reading

from pm.evaluate.record import record
from pm.track.base import Tracker, TrackerChoice


class Kept(Tracker):
    def __init__(self):
        self.tables, self.pictures, self.pages = {}, {}, {}
        self.order = []

    def table(self, name, columns, rows):
        self.order.append(name)
        self.tables[name] = (columns, rows)

    def page(self, name, path):
        self.pages[name] = path

    def picture(self, name, path, step):
        self.order.append(name)
        self.pictures[name] = path


KEPT = Kept()


@dataclass(frozen=True)
class KeptChoice(TrackerChoice):
    def build(self, folder, run, tell):
        return KEPT


def test_the_tracker_gets_every_row_the_picture_and_the_page(tmp_path):
    rows = [row_of(true_reading, name="a", seconds=2.0), row_of(true_reading, name="b")]
    record(KeptChoice("kept"), tmp_path, rows)
    columns, values = KEPT.tables["report"]
    assert columns == ["name", "identity", "prompt", "diversity", "seconds_per_image"]
    assert values == [["a", 1.0, 1.0, 0.0, 2.0], ["b", 1.0, 1.0, 0.0, None]]
    assert KEPT.order == ["grid", "report"]  # wandb would drop a picture of step 0 after the table
    assert KEPT.pictures == {"grid": tmp_path / "grid.png"} and KEPT.pages == {"page": tmp_path / "report.html"}
