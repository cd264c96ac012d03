"""What describes clusters: valid for Ray and for KubeRay, nothing unknown in it, and the same versions everywhere."""

import functools
import gzip
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((ROOT / "deploy/kuberay").glob("*.yaml"))
# KubeRay's v1 RayJob (Apache-2.0), from its Helm chart's CRDs of August 2026, without descriptions. A RayCluster's spec
# is the RayJob's rayClusterSpec.
SCHEMA = json.loads(gzip.decompress(Path(__file__).with_name("kuberay-rayjob.v1.schema.json.gz").read_bytes()))
KINDS = {"RayJob": SCHEMA["properties"]["spec"]}
KINDS["RayCluster"] = KINDS["RayJob"]["properties"]["rayClusterSpec"]


def closed(schema):
    """The schema, refusing fields it does not know: a cluster would drop them without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if (
        "properties" in result
        and isinstance(schema["properties"], dict)
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        result.setdefault("additionalProperties", False)
    return result


@functools.cache
def validator(kind: str):
    """Not `jsonschema.validate`: it checks the schema, which is long, again for every document."""
    schema = closed(KINDS[kind])
    return jsonschema.validators.validator_for(schema)(schema)


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def cluster_spec(manifest: dict) -> dict:
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def images() -> dict[str, str]:
    """Every container image of the repository's cluster files."""
    found = {"ray_cluster.yaml": load(ROOT / "ray_cluster.yaml")["docker"]["image"]}
    found["Dockerfile"] = re.search(r"^FROM (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.M).group(1)
    for path in MANIFESTS:
        spec = cluster_spec(load(path))
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            for container in group["template"]["spec"]["containers"]:
                found[f"{path.name}: {container['name']}"] = container["image"]
    return found


def pinned_ray() -> str:
    return re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M).group(1)


def test_ray_up_takes_the_cluster_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = load(ROOT / "ray_cluster.yaml")
    validate_config(prepare_config(json.loads(json.dumps(config))))
    worker = config["available_node_types"]["gpu_spot"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert worker["min_workers"] == 0 < worker["max_workers"] <= config["max_workers"]
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        for setting in ("RAY_AUTH_MODE=token", "PM_STORAGE=s3://", "RAY_JOB_STOP_WAIT_TIME_S="):
            assert any(setting in command for command in commands)
    with pytest.raises(jsonschema.ValidationError):  # the schema does refuse
        validate_config({**config, "max_workerz": 1})


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_kuberay_takes_the_manifest(path):
    manifest = load(path)
    assert manifest["apiVersion"] == "ray.io/v1"
    # Of a RayService its cluster; what it serves is tested with the server.
    service = manifest["kind"] == "RayService"
    checked = cluster_spec(manifest) if service else manifest["spec"]
    schema = validator("RayCluster" if service else manifest["kind"])
    schema.validate(checked)
    spec = cluster_spec(manifest)
    assert spec["rayVersion"] == pinned_ray() and (service or spec["authOptions"]["mode"] == "token")
    spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="imagee"):
        schema.validate(checked)


def test_every_kind_of_manifest_is_there():
    assert {load(path)["kind"] for path in MANIFESTS} == {*KINDS, "RayService"}


def test_images_are_pinned_to_the_projects_versions():
    version = re.search(r'^version = "(\S+)"$', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    for where, image in images().items():
        name, tag = image.rsplit(":", 1)
        expected = pinned_ray() if name == "rayproject/ray" else version
        assert re.fullmatch(rf"{re.escape(expected)}(-\S+)?", tag), (where, image)


def test_the_commands_in_the_manifests_compose():
    from hydra import compose, initialize_config_dir

    entrypoint = load(ROOT / "deploy/kuberay/rayjob.yaml")["spec"]["entrypoint"].split()
    assert entrypoint[:2] == ["photomaker", "train"]
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        assert compose("train", entrypoint[2:]).name == "paper"
