"""PhotoMaker V2: a batch is its rows, a file gives the model that wrote it, and what does not fit is refused."""

from types import SimpleNamespace

import pytest
import torch
from support.sampling import PROBE, TARGETS, write_v2

from pm.errors import CheckpointError, DataError
from pm.model.adapter import adapter_state
from pm.model.adapter_file import load_adapter, save_adapter, strip
from pm.model.base import load_base
from pm.model.config import FaceEmbedding
from pm.model.kinds.base import kind_of
from pm.model.kinds.photomaker_v2 import PhotoMakerV2Choice
from pm.model.lora import lora_parameters


def choice(merge="repeat", face=PROBE, **changes) -> PhotoMakerV2Choice:
    values = {"tokens": 2, "depth": 2, "lora_rank": 4, "lora_targets": TARGETS, "train_layers": 1, "face": face}
    return PhotoMakerV2Choice("photomaker_v2", 4, "img", False, merge, **values | changes)


@pytest.fixture(scope="module", params=["repeat", "insert"])
def model(request, tiny_base):
    torch.manual_seed(0)
    built = choice(request.param).build(load_base(tiny_base)).eval()
    with torch.no_grad():
        for parameter in built.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    return built


@pytest.fixture
def batch(model, make_batch) -> SimpleNamespace:
    made = make_batch(model)
    generator = torch.Generator().manual_seed(2)
    return SimpleNamespace(**vars(made), face_embeds=torch.randn(7, 34, generator=generator))


def alone(batch, row, row_of):
    start = int(batch.id_counts[:row].sum())
    faces = batch.face_embeds[start : start + int(batch.id_counts[row])]
    rest = SimpleNamespace(**{k: v for k, v in vars(batch).items() if k != "face_embeds"})
    return SimpleNamespace(**vars(row_of(rest, row)), face_embeds=faces)


@torch.no_grad()
def test_batch_of_n_equals_n_batches_of_one(model, batch, row_of):
    together = model(batch.noisy, batch.timesteps, batch)
    for row in range(3):
        one = alone(batch, row, row_of)
        torch.testing.assert_close(model(one.noisy, one.timesteps, one)[0], together[row], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_each_photo_has_two_tokens_where_its_class_word_is(model, batch):
    tokens = model.embed(batch.id_pixels, batch.face_embeds)
    assert tokens.shape == (7, 2, 80) and model.tokens_of_each(batch.id_counts).tolist() == [4, 2, 8]
    if not model.repeat:  # as long as the text, without the word, with the tokens
        made = model.condition(batch.text, batch.class_index, None, batch.id_counts, batch.time_ids, id_embeds=tokens)
        assert made.mask.sum(1).tolist() == [77 + 3, 77 + 1, 77 + 7]


@torch.no_grad()
def test_face_and_picture_both_count_and_a_weight_of_zero_is_the_word(model, batch):
    tokens = model.embed(batch.id_pixels, batch.face_embeds)
    assert (model.embed(batch.id_pixels, batch.face_embeds.flip(0)) - tokens).abs().max() > 1e-2
    assert (model.embed(batch.id_pixels.flip(0), batch.face_embeds) - tokens).abs().max() > 1e-3
    encoder, counts, c = model.id_encoder, batch.id_counts, torch.randn(14, 80)
    assert torch.allclose(encoder.fuse(tokens, counts, c, torch.zeros(7)), c, atol=1e-6)
    torch.testing.assert_close(encoder.fuse(tokens, counts, c, torch.ones(7)), encoder.fuse(tokens, counts, c))


def test_gradients_reach_all_that_is_trained_and_nothing_else(model, batch):
    model.zero_grad()
    model(batch.noisy, batch.timesteps, batch).square().mean().backward()
    trained = [p for group in model.parameter_groups().values() for p in group]
    assert all(p.grad is not None for p in trained)
    frozen = {name for name, p in model.id_encoder.named_parameters() if not p.requires_grad}
    assert {"visual_projection.weight", "visual_projection_2.weight", "vision_model.post_layernorm.bias"} <= frozen
    assert not any(name.startswith(("qformer_perceiver", "fuse_module")) for name in frozen)
    model.zero_grad()


@torch.no_grad()
def test_a_file_gives_the_conditioner_that_wrote_it(tiny_base, tmp_path):
    file = write_v2(tiny_base, tmp_path / "v2.safetensors", seed=3)
    state, meta = load_adapter(file)
    assert meta.kind == "photomaker_v2" and meta.settings["face_embedding"]["embedder"] == "probe"
    base = load_base(tiny_base)
    read, change = kind_of(meta.kind).read(base, state, meta, check_base=True)
    torch.manual_seed(3)
    wrote = choice(train_layers=0).build(load_base(tiny_base)).eval()
    pixels, faces = torch.randn(2, 3, 32, 32), torch.randn(2, 34)
    torch.testing.assert_close(read.embed(pixels, faces), wrote.embed(pixels, faces))
    assert {f"unet.{layer}.lora_A.weight" for layer in change.layers} <= lora_parameters(wrote.unet, "unet.").keys()


def test_published_files_are_told_apart_by_their_keys(tiny_base, tmp_path):
    state, _ = load_adapter(write_v2(tiny_base, tmp_path / "v2.safetensors"))
    parts = {part: strip(state, f"{part}.") for part in ("id_encoder", "lora_weights")}
    torch.save(parts, tmp_path / "photomaker-v2.bin")
    found, meta = load_adapter(tmp_path / "photomaker-v2.bin")
    assert found.keys() == state.keys() and (meta.kind, meta.merge) == ("photomaker_v2", "repeat")
    assert meta.settings == {"face_embedding": {"embedder": "", "weights": "", "width": 34}, "tokens_per_photo": 2}
    without = {k: v for k, v in state.items() if "token_norm" not in k}
    with pytest.raises(CheckpointError, match="not a whole PhotoMaker V2 adapter"):
        load_adapter({"id_encoder": strip(without, "id_encoder."), "lora_weights": parts["lora_weights"]})
    v1 = {k: v for k, v in parts["id_encoder"].items() if "qformer" not in k}
    assert load_adapter({"id_encoder": v1, "lora_weights": parts["lora_weights"]})[1].kind == "photomaker"


def test_a_dataset_must_have_the_face_embeddings():
    ours = choice(face=None)
    with pytest.raises(DataError, match="data has no face embeddings.*features.face_embeddings=true"):
        ours.for_dataset(None, "data")
    assert ours.for_dataset(PROBE, "data").face == PROBE
    with pytest.raises(DataError, match="has face embeddings of embedder=probe"):
        choice(face=FaceEmbedding("dlib", "", 128)).for_dataset(PROBE, "data")


@pytest.mark.parametrize(
    ("a", "b", "differs"),
    [
        (("probe", "aa", 34), ("probe", "aa", 34), False),
        (("", "", 512), ("insightface", "cc", 512), False),
        (("", "", 512), ("dlib", "", 128), True),
        (("probe", "aa", 34), ("probe", "bb", 34), True),
        (("probe", "aa", 34), ("mine", "aa", 34), True),
    ],
)
def test_what_is_unknown_of_an_embedder_may_be_anything(a, b, differs):
    assert FaceEmbedding(*a).differs(FaceEmbedding(*b)) is FaceEmbedding(*b).differs(FaceEmbedding(*a)) is differs


def test_a_run_does_not_start_from_an_adapter_of_another_embedder(tiny_base, tmp_path):
    file = write_v2(tiny_base, tmp_path / "v2.safetensors")
    own, other = (choice(face=face).build(load_base(tiny_base)) for face in (PROBE, FaceEmbedding("mine", "", 34)))
    choice().start_from(own, file)
    state = load_adapter(file)[0]
    assert all(torch.equal(v, state[k]) for k, v in adapter_state(own).items())
    with pytest.raises(CheckpointError, match="was trained with face embeddings of embedder=probe"):
        choice().start_from(other, file)
    _, meta = load_adapter(file)
    meta.settings["face_embedding"]["width"] = "wide"
    save_adapter(tmp_path / "odd.safetensors", state, meta)
    with pytest.raises(CheckpointError, match="about face embeddings is damaged"):
        choice().start_from(own, tmp_path / "odd.safetensors")
