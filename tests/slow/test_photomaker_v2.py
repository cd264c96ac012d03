"""PhotoMaker V2 from drawn photos to portraits on the toon base, stage by stage in this process, without Ray."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.methods import trial
from support.photos import SAMPLES
from support.sampling import worst

from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.dataset.output import open_output
from pm.data.dataset.reader import IdentityDataset
from pm.data.dataset.writer import finish, write_shard
from pm.data.run.shards import describe, settings_of
from pm.data.run.steps import stages_of, work_of
from pm.data.source.listing import Listing
from pm.data.stages.stage import Place
from pm.errors import CheckpointError
from pm.methods.photomaker import PhotoMakerMethod
from pm.model.adapter_file import load_adapter
from pm.model.base_sizes import base_sizes
from pm.sample import PhotoMakerPipeline, Request
from pm.sample.config import GenerateConfig
from pm.sample.run import generate
from pm.train.config import ExportConfig
from pm.train.export import export
from pm.train.run.config import RunConfig
from pm.train.run.context import LocalContext
from pm.train.run.workers import run_worker
from serving.compose import composed

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "assets/toon/examples"
PROMPT = "a man img wearing a red hoodie, smiling, in front of a blue wall"


def settings(cls, entry, overrides, without=()):
    values = composed(entry, overrides)
    return from_mapping(cls, {key: value for key, value in values.items() if key not in without})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    wanted = ["dataset=toon", "dataset.identities=2", "dataset.photos_per_identity=2", "features.face_embeddings=true"]
    wanted.append("dtype=float32")  # what `auto` means is known once the cluster is
    config = settings(
        PreprocessConfig, "preprocess", [*wanted, f"dataset.root={folder}/raw", f"output={folder}/out"], ("forget",)
    )
    config.dataset.prepare()
    sizes, names = base_sizes(config.base), [stage.name for stage in stages_of(config)]
    with Listing(config.dataset) as listing:
        photos, digest = list(listing.photos()), listing.digest
    for work in work_of(names, config, Place(sizes)):
        photos = work.function(photos)
    made = settings_of(config, sizes, digest)
    open_output(config.output, made, overwrite=False)
    write_shard(photos, config.output)
    finish(config.output, names, describe(config, sizes, made))
    return Path(config.output)


@pytest.fixture(scope="module")
def adapter(dataset, tmp_path_factory) -> Path:
    small = ["adapter.lora_rank=4", "adapter.train_layers=1", "adapter.depth=1", "adapter.gradient_checkpointing=false"]
    short = ["train.steps=2", "train.batch_size=2", "train.lr_lora=1e-3", "engine=ddp", "tracker=none"]
    pictures = ["train.validate_every=2", "validation.identities=1", "validation.sampler.steps=2"]
    values = composed("train", ["model=photomaker_v2", f"data={dataset}", *small, *short, *pictures])
    aliases = ("merge", "data", "draw", "wild", "storage_path")
    fields = {key: value for key, value in values.items() if key not in aliases}
    config = from_mapping(RunConfig, fields | {"dataset": str(dataset)})
    run = tmp_path_factory.mktemp("run")
    run_worker(config, LocalContext(run), {}, callbacks=[])
    assert list((run / "validation").glob("*.png"))
    return run / "adapter.safetensors"


def test_the_dataset_has_what_the_probe_says_of_each_face(dataset):
    data = IdentityDataset(dataset, SAMPLES)
    assert (data.face_embedding.embedder, data.face_embedding.width) == ("probe", 34) and data.face_embedding.weights
    faces = data.face_embeds(range(len(data)))
    torch.testing.assert_close(faces.norm(dim=1), torch.ones(len(data)))
    assert min(faces[0] @ faces[1], faces[2] @ faces[3]) > (faces[:2] @ faces[2:].T).max()  # two of each person


def test_portraits_of_photos_on_disk_and_the_adapters_own_words(adapter, tmp_path):
    _, meta = load_adapter(adapter)
    said = meta.settings["face_embedding"]
    assert (said["embedder"], said["width"], meta.settings["tokens_per_photo"]) == ("probe", 34, 2)
    few = [
        "images=1",
        "sampler.steps=2",
        "device=cpu",
        f"adapter={adapter}",
        f"output={tmp_path}/out",
        f"prompt='{PROMPT}'",
    ]
    ids = f"id_images=[{EXAMPLES}/man_1.png,{EXAMPLES}/man_2.png]"
    config = settings(GenerateConfig, "generate", [*few, ids])
    generate(config, progress=False)
    with pytest.raises(CheckpointError, match="embedder=probe, and embedder=dlib is another"):
        generate(settings(GenerateConfig, "generate", [*few, ids, "embedder=dlib"]), progress=False)
    pipeline = PhotoMakerPipeline.from_pretrained(ROOT / "assets/toon", adapter)
    shown = pipeline.references([EXAMPLES / "man_1.png", EXAMPLES / "man_2.png"])
    asked = Request(
        PROMPT, id_embeds=pipeline.embed(shown), steps=2, seed=config.seed, guidance=config.sampler.guidance
    )
    asked = replace(asked, merge_step=config.sampler.merge_step, negative_prompt=config.sampler.negative_prompt or None)
    assert worst(pipeline.generate([asked])[0], Image.open(tmp_path / "out" / "0000.png")) <= 1
    # The same weights in the authors' own form, which says nothing of the embedder.
    file = export(
        ExportConfig(str(adapter), "newest", "published", str(tmp_path / "photomaker-v2.bin"), None, None, ())
    )
    pipeline.load_photomaker_adapter(file, adapter_name="published", pm_version="v2")
    faces = torch.tensor([reference.face.embedding for reference in shown])
    own = replace(asked, id_embeds=None, id_images=[r.image for r in shown], masks=[r.mask for r in shown])
    twins = [replace(own, face_embeds=faces, adapter=name) for name in ("photomaker", "published")]
    assert worst(*pipeline.generate(twins)) <= 1
    assert worst(pipeline.generate([replace(twins[0], face_embeds=-3 * faces)])[0], pipeline.generate(twins[:1])[0]) > 0
    diffusers = export(ExportConfig(str(adapter), "newest", "diffusers", str(tmp_path / "lora"), None, None, ()))
    assert {path.name for path in diffusers.iterdir()} >= {"pytorch_lora_weights.safetensors", "id_encoder.safetensors"}


def test_it_is_evaluated_as_any_adapter(adapter):
    pipeline_of = PhotoMakerMethod("photomaker", str(adapter))
    config = settings(GenerateConfig, "generate", ["prompt='a man img'", "id_images=[a.png]", "sampler.steps=1"])
    method = pipeline_of.load(config.base, config.sampler, torch.device("cpu"), torch.float32)
    asked = trial()
    state = method.personalise(asked.references, asked.class_word, 0)
    assert state["id_embeds"].shape[1:] == (2, method.pipeline.base.text_width)
    made = method.pipeline.generate(method.requests(state, asked, 1))
    assert len(made) == len(asked.seeds)
