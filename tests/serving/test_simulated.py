"""A U-Net that is a wait, the benchmark on it, and the model that is fitted to that."""

import asyncio
import importlib.util
import json
import statistics
import sys
from pathlib import Path

import pytest

from pm.errors import ConfigError
from serving.engine.simulated import StepTimes

ROOT = Path(__file__).resolve().parents[2]


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_times_between_and_beyond_those_of_the_table():
    times = StepTimes("", {1.0: [(2, 0.04), (4, 0.06)], 2.0: [(2, 0.08), (4, 0.12)]})
    assert times.seconds(3) == pytest.approx(0.05) and times.seconds(8) == pytest.approx(0.10)
    assert times.seconds(2, 1.5) == pytest.approx(0.06) and times.seconds(4, 3) == pytest.approx(0.18)
    assert 0 < times.seconds(1, 0.1) <= 0.04
    assert StepTimes("", {1.0: [(2, 0.04)]}).seconds(4, 0.5) == pytest.approx(0.04)
    shipped = StepTimes.read(ROOT / "benchmarks/step_times.json")
    assert "not measured" in shipped.about
    assert [shipped.seconds(n) for n in (1, 2, 8, 16)] == sorted(shipped.seconds(n) for n in (1, 2, 8, 16))


@pytest.mark.parametrize("content", [None, "{", "{}", '{"about": "", "resolution": 64, "steps": []}'])
def test_a_file_that_is_no_table_is_named(tmp_path, content):
    file = tmp_path / "times.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="engine.step_times=.*times.json: "):
        StepTimes.read(file)


def test_one_engine_that_takes_one_image_is_the_queue_that_books_have():
    """M/D/1 (Pollaczek-Khinchine): the mean wait is rho s / 2 (1 - rho)."""
    capacity = script("capacity")
    service = capacity.Service(1, 1, lambda lines, size: 0.1)
    kinds = [capacity.Kind(1.0, 10)]
    assert capacity.capacity(service, kinds) == pytest.approx(1.0)
    for rho in (0.5, 0.8):
        found = capacity.simulate(service, kinds, rho, 40_000)
        expected = 1 + rho / (2 * (1 - rho))
        assert statistics.mean(found.latencies) == pytest.approx(expected, rel=0.08)
        assert found.busy == pytest.approx(rho, rel=0.03) and found.refused == 0


def test_what_engines_and_batches_that_images_join_bring():
    capacity = script("capacity")
    kinds = [capacity.Kind(0.5, 10), capacity.Kind(0.5, 30)]
    one = capacity.Service(1, 4, lambda lines, size: 0.02 + 0.01 * lines)
    most = capacity.capacity(one, kinds)
    joined, together = (
        capacity.simulate(capacity.replace(one, static=static), kinds, 0.6 * most, 2000) for static in (False, True)
    )
    assert joined.quantile(0.5) < together.quantile(0.5) and joined.quantile(0.99) < together.quantile(0.99)
    many = capacity.simulate(capacity.replace(one, engines=8), kinds, 8 * 0.6 * most, 400)
    assert many.quantile(0.99) < joined.quantile(0.99)
    # Beyond what engines can do a bounded queue refuses the rest, and they are never idle.
    flood = capacity.simulate(capacity.replace(one, queue=8), kinds, 5 * most, 400)
    assert flood.busy > 0.95 and flood.refused > 0 and flood.throughput == pytest.approx(most, rel=0.1)


def test_the_benchmark_runs_and_the_model_is_fitted_to_it(tmp_path):
    """The real application and a real engine on the toon base; every wait is a fiftieth, so figures mean nothing."""
    simulated, capacity = script("simulated"), script("capacity")
    options = ["--scale", "0.02", "--seconds", "0.2", "--rows", "2", "--images", "2", "--output", str(tmp_path)]
    found = asyncio.run(simulated.measure(simulated.parsed([*options, "--parts", "loads", "sampler.guidance=2"])))
    assert found == json.loads((tmp_path / "simulated.json").read_text())
    assert [row["load"] for row in found["loads"]] == [0.5, 0.8, 0.95]
    assert found["alone"]["step_s"] > 0.02 * 0.04 and all(row["other"] == 0 for row in found["loads"])
    service = capacity.fitted(found, StepTimes.read(found["about"]["step_times"]).seconds)
    assert service.step_extra >= 0 and service.image_extra >= 0
    kinds = [capacity.Kind(**each) for each in found["about"]["kinds"]]
    assert capacity.capacity(service, kinds) <= 1.1 * found["peak"]["images_per_s"]
