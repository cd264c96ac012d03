"""The files that others' programs read: Serve's own schema, and our configuration inside KubeRay's."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.sampling import write_adapter

from pm.errors import ConfigError, PmError
from serving.config import ServeConfig, load
from serving.run import check, greeting

ROOT = Path(__file__).resolve().parents[2]


def serve_config(text: str) -> dict:
    from ray.serve.schema import ServeDeploySchema

    content = yaml.safe_load(text)
    ServeDeploySchema.model_validate(content)
    return content


def built(content: dict) -> ServeConfig:
    """What its application would run with."""
    from serving.app import build_app

    (app,) = content["applications"]
    assert app["import_path"] == f"serving.app:{build_app.__name__}"
    assert content["http_options"]["host"] == app["args"]["host"]
    config = load(app["args"]["overrides"])
    assert content["http_options"]["request_timeout_s"] >= config.limits.request_s + config.limits.body_s
    return config


def test_serve_config_is_serves_and_builds():
    from serving.app import build_app

    content = serve_config((ROOT / "serving" / "config.yaml").read_text())
    built(content)
    build_app(content["applications"][0]["args"])


def test_build_app_is_closed_unless_told_otherwise():
    from serving.app import build_app

    with pytest.raises(ConfigError, match="keys.file is not set"):
        build_app({})
    build_app({"overrides": ["keys.anonymous=true"]})
    for wrong in ({"override": []}, {"overrides": ["engine.rows=3"]}, {"overrides": ["limits.photos=many"]}):
        with pytest.raises(ConfigError):
            build_app(wrong | {"host": "127.0.0.1"})


def test_an_ingress_needs_no_torch():
    """It starts in a third of the time, and in a third of the memory."""
    code = "import sys, serving.app; print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_autoscaling_reaches_serve():
    from serving.app import deploy

    app = deploy(load(["engines.min_replicas=0", "engines.max_replicas=3", "engine.max_rows=5", "engine.lookahead=2"]))
    ingress = app._bound_deployment
    engine = ingress.init_args[1]._bound_deployment
    scaling = engine._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (0, 3)
    assert engine.max_ongoing_requests == 7
    assert engine._deployment_config.max_surge_percent == ingress._deployment_config.max_surge_percent == 100
    for deployment in (ingress, engine):
        assert deployment.backpressure_config.status_code == 429 and deployment.backpressure_config.retry_after_s


def test_the_rayservices_application_builds():
    manifest = yaml.safe_load((ROOT / "deploy" / "kuberay" / "rayservice.yaml").read_text())
    config = built(serve_config(manifest["spec"]["serveConfigV2"]))
    assert config.keys.file and config.base.path.startswith("/models") and config.engines.num_gpus == 1
    # A pod is ended only after its replicas have finished.
    for group in manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > config.engines.drain_s


def test_wrong_files_are_found_before_anything_starts(tmp_path, config):
    changes = [
        {"base": dataclasses.replace(config.base, path=str(tmp_path))},
        {"adapters": {"a": str(tmp_path / "missing.safetensors")}},
        {"keys": dataclasses.replace(config.keys, file=str(tmp_path / "missing.yaml"))},
    ]
    for change in changes:
        with pytest.raises(PmError, match=str(tmp_path)):
            check(dataclasses.replace(config, **change))


def test_an_adapter_of_another_base_is_found_before_anything_starts(tmp_path, config, tiny_sd15):
    other = write_adapter(tiny_sd15, tmp_path / "other.safetensors")
    with pytest.raises(PmError, match=f"adapter {other} was trained on base"):
        check(dataclasses.replace(config, adapters={"a": str(other)}))
    with pytest.raises(PmError, match="steps=9999 is out of range"):
        check(dataclasses.replace(config, sampler=dataclasses.replace(config.sampler, steps=9999)))
    check(config)


@pytest.mark.parametrize("adapters", [{}, {"base": "x"}, {"": "x"}, {"a": ""}, {"a": None}])
def test_adapters_need_names_and_files(config, adapters):
    with pytest.raises(ConfigError, match="adapters"):
        dataclasses.replace(config, adapters=adapters)


def test_greeting_can_be_pasted(config):
    text = greeting(config, 1.0)
    python = text[text.index("<<'PY'\n") + 7 : text.index("\nPY\n")]
    compile(python, "example", "exec")
    quoted = [part for part in text.replace("@", '"').split('"') if part.endswith(".png") and os.sep in part]
    assert len(quoted) == 2 and all(Path(path).is_file() for path in quoted)


def test_the_start_says_what_it_does_in_a_line_each_where_nothing_can_move(capsys):
    from serving.run import _alive

    with _alive() as say:
        say("starting Ray")
        say("loading [a] base")
    assert capsys.readouterr().err.split("\n") == ["starting Ray ...", "loading [a] base ...", ""]
