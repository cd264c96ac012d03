"""The whole photos suite over workers of Ray: real photographs, every metric, a driver that is killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from support.measuring import write_measures
from support.people import write_people

from pm.config import from_mapping
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.run import evaluate
from pm.evaluate.store import Store
from serving.compose import composed

pytestmark = pytest.mark.usefixtures("ray_session")
ROOT = Path(__file__).resolve().parents[2]
ROWS, PICTURES, BATCH = 3, 8, 2  # 2 people × 2 prompts × 2 images
METHODS = "[text_only, {name: dreambooth, prior_weight: 0, train: {steps: 2, batch_size: 1}}]"
# Those of the suite, and those that fetch their model from the Hub elsewhere; of one there is none.
SUITES = ("effnet_similarity", "face_similarity", "faces_found", "copy_paste", "squeezenet_face_diversity",
          "frechet_effnet")  # fmt: skip
PLAIN = ("squeezenet_distance", "pose_copy", "expression_copy")
ALWAYS = ("effnet_similarity", "faces_found", "frechet_effnet", "squeezenet_distance", "clip_t", "clip_i", "dino",
          "aesthetic", "fid")  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> list[str]:
    """What is typed after `photomaker evaluate`."""
    folder = tmp_path_factory.mktemp("photos")
    models = [f"{{name: {name}, {setting}}}" for name, setting in write_measures(folder / "models").items()]
    return [
        "suite=photos", f"suite.root={write_people(folder / 'people')}", "suite.drawn_base=true", "base=toon",
        "protocol=demo", "protocol.identities=2", "protocol.prompts=2", "protocol.images=2", "protocol.references=[2]",
        f"metrics=[{', '.join([*SUITES, *PLAIN, *models, '{name: lpips, path: nobody/no-such-vgg}'])}]",
        f"methods={METHODS}", f"adapters=[{ROOT}/assets/toon/adapter.safetensors]", f"output={folder / 'out'}",
        "sampler.steps=2", f"sampler.batch_size={BATCH}", "workers.num=2", "tracker=none", "device=cpu",
        "dtype=float32",
    ]  # fmt: skip


def pictures(output: Path) -> dict[Path, tuple[int, int, bytes]]:
    """What tells whether a file is the very one that was there."""
    found = sorted((output / "pictures").rglob("*.png")) + sorted((output / "states").rglob("*.pt"))
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in found}


def killed_midway(asked: list[str], output: Path) -> None:
    """Start the command on this Ray, and kill its driver when it is in the second row."""
    address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "HYDRA_FULL_ERROR": "1"}
    with (output.parent / "log").open("w") as log:
        command = [sys.executable, str(ROOT / "pipelines/evaluate.py"), *asked]
        driver = subprocess.Popen(command, env=os.environ | address, stdout=log, stderr=log, start_new_session=True)
        try:
            end = time.monotonic() + 300  # of patience: a busy machine needs minutes to start
            while len(list(output.glob("pictures/*/*/*.png"))) < PICTURES + BATCH and time.monotonic() < end:
                assert driver.poll() is None, (output.parent / "log").read_text()
                time.sleep(0.02)
        finally:
            driver.send_signal(signal.SIGKILL)
    assert driver.wait(60) == -signal.SIGKILL


def test_a_driver_that_was_killed_goes_on_and_makes_no_picture_twice(asked, monkeypatch, capsys):
    config = from_mapping(EvaluateConfig, composed("evaluate", asked))
    output = Path(config.output)
    killed_midway(asked, output)
    before = pictures(output)
    made = [path for path in before if path.suffix == ".png"]
    assert PICTURES + BATCH <= len(made) < ROWS * PICTURES, "it was not killed midway"

    saved: list[Path] = []
    save = Store.save

    def noted(self, key, item, png):
        saved.append(self.path(key, item))
        save(self, key, item, png)

    monkeypatch.setattr(Store, "save", noted)
    text = evaluate(config)
    after = pictures(output)
    assert {path: after[path] for path in before} == before  # none was even written again
    assert not set(saved) & set(made) and len(saved) == len(set(saved)) == ROWS * PICTURES - len(made)
    costs = [json.loads(line) for file in output.glob("pictures/*/cost.jsonl") for line in file.open()]
    assert sum(cost.get("pictures", 0) for cost in costs) <= ROWS * PICTURES  # nor was any made in vain
    assert sum(cost.get("people", 0) for cost in costs) == 2

    check_report(json.loads((output / "report.json").read_text()), text)
    capsys.readouterr()
    assert evaluate(config) == text and capsys.readouterr().out.count("made and measured already") == ROWS
    assert pictures(output) == after and len(saved) == ROWS * PICTURES - len(made)


def check_report(report: dict, text: str) -> None:
    """Every row is whole, and every metric has a value or says why not."""
    rows = [report["floor"], *report["rows"]]
    assert not report["partial"] and len(rows) == ROWS and all(row["made"] == PICTURES for row in rows)
    assert rows[1]["about"]["method"] == "dreambooth" and rows[1]["seconds_to_personalise"] > 0
    for row in rows:
        for name, found in row["metrics"].items():
            assert (found["interval"] is None) == ("why" in found), name
        assert all(row["metrics"][name]["interval"] is not None for name in ALWAYS)
        assert "path=nobody/no-such-vgg is neither here nor can be fetched" in row["metrics"]["lpips"]["why"]
        assert len(row["metrics"]["effnet_similarity"]["per_person"]) == 2
    assert "Fréchet-EffNet" in text and "CLIP-T" in text
