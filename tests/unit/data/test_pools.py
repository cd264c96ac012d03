"""What each step gets of a cluster, and that no part takes a GPU that it was not given."""

import pytest
from support.preprocessing import SIZES, settings

from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.run.pools import pools_of
from pm.data.run.steps import ORDER, stages_of, steps_of, work_of
from pm.data.stages.stage import Place
from pm.errors import ConfigError

BLIP2 = {"name": "blip2", "path": "p", "prompt": "", "attempts": 1, "max_tokens": 1, "temperature": 1}
MASK2FORMER = {"name": "mask2former", "path": "p", "label": "person", "threshold": 0.5}
MASK2FORMER |= {"min_overlap": 0.3, "max_share": 1}


def config(gpus=None, **changes):
    return from_mapping(PreprocessConfig, settings(workers={**settings()["workers"], "gpus": gpus}, **changes))


def pools(config, cpus=8, gpus=2):
    return pools_of(steps_of(stages_of(config)), config.workers, cpus, gpus)


def test_stages_without_a_model_share_a_task_and_the_others_have_workers_of_their_own():
    assert [step.stages for step in steps_of(stages_of(config()))] == [ORDER[2:8], ORDER[8:]]
    heavy = steps_of(stages_of(config(mask=MASK2FORMER, caption=BLIP2)))
    assert [step.stages for step in heavy] == [ORDER[2:6], ("masks",), ("captions",), ORDER[8:]]
    assert [(step.pool, step.gpu) for step in heavy] == [(False, False), (True, True), (True, True), (True, True)]


def test_a_gpu_is_shared_by_the_steps_that_can_use_one():
    assert pools(config()) == {"precompute": (2, 1.0)}
    third = pytest.approx(1 / 3)
    assert pools(config(mask=MASK2FORMER, caption=BLIP2)) == {
        n: (2, third) for n in ("masks", "captions", "precompute")
    }
    assert pools(config(gpus=0, mask=MASK2FORMER)) == {"masks": (2, 0.0), "precompute": (2, 0.0)}
    with pytest.raises(ConfigError, match="need 0.55 CPUs and 3 GPUs, Ray has 8 and 2"):
        pools(config(gpus=3))


def test_every_part_gets_the_device_of_its_worker(monkeypatch):
    """With workers.gpus=0 that is "cpu", whatever GPUs a process can see (Ray does not hide them here)."""
    from pm.data.captioning.blip2 import Blip2
    from pm.photo.faces.sidecar import Sidecar as Faces
    from pm.photo.masks.mask2former import Mask2Former

    given = {}
    for part in (Blip2, Faces, Mask2Former):

        def build(self, *args, part=part, **kwargs):
            given[part.__name__] = kwargs.get("device") or args[0]

        monkeypatch.setattr(part, "build", build)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    work_of(ORDER[2:8], config(mask=MASK2FORMER, caption=BLIP2), Place(SIZES, "cpu"))
    assert given == {"Blip2": "cpu", "Sidecar": "cpu", "Mask2Former": "cpu"}
