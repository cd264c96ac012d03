"""`merge=repeat` through our pipeline against the published methods, v1 and V2, written here from their description.

The reference handles one prompt and one person with diffusers' and transformers' own parts: the trigger word is a token
that is taken out again, the class token before it is repeated once for each photo (V2: twice), the fused features
replace it, and the U-Net sees the text alone up to and including `start_merge_step`.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from pm.model.adapter import adapter_state
from pm.model.adapter_file import strip
from pm.model.base import load_base
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig, FaceEmbedding
from pm.model.kinds.photomaker_v2 import PhotoMakerV2Choice
from pm.model.photomaker import PhotoMaker
from pm.sample import PhotoMakerPipeline, Request

STEPS, SIZE = 20, 32
KINDS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


class Reference:
    """The published method on the weights of a published file."""

    def __init__(self, base, content, vision_config):
        self.pipe = StableDiffusionXLPipeline.from_pretrained(base, add_watermarker=False)
        self.pipe.unet.load_lora_adapter(dict(content["lora_weights"]), prefix="unet", adapter_name="photomaker")
        self.weights = content["id_encoder"]
        self.tower = CLIPVisionModel(CLIPVisionConfig(**vision_config)).eval()
        self.tower.load_state_dict(strip(self.weights, "vision_model."), strict=True)
        self.processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
        self.pairs = [
            (self.pipe.tokenizer, self.pipe.text_encoder),
            (self.pipe.tokenizer_2, self.pipe.text_encoder_2),
        ]
        for tokenizer, _ in self.pairs:
            tokenizer.add_tokens(["img"], special_tokens=True)

    def _norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _mlp(self, x, name):
        first, second = (
            (self.weights[f"fuse_module.{name}.{fc}.weight"], self.weights[f"fuse_module.{name}.{fc}.bias"])
            for fc in ("fc1", "fc2")
        )
        return F.linear(F.gelu(F.linear(self._norm(x, f"fuse_module.{name}.layernorm"), *first)), *second)

    def seen(self, photos):
        return self.tower(self.processor(photos, return_tensors="pt").pixel_values)

    def tokens(self, photos, faces):
        """What is fused with the class word, a row for each token."""
        pooled = self.seen(photos).pooler_output
        both = (self.weights["visual_projection.weight"], self.weights["visual_projection_2.weight"])
        return torch.cat([pooled @ matrix.T for matrix in both], -1)

    def embed(self, prompt, photos, faces=None):
        """Prompt embeddings [1, L, D] with the person in them, and pooled [1, P]."""
        states, image = [], self.tokens(photos, faces)
        count = len(image)
        for tokenizer, encoder in self.pairs:
            ids = tokenizer.encode(prompt)
            place = ids.index(tokenizer.convert_tokens_to_ids("img")) - 1
            ids = ids[:place] + [ids[place]] * count + ids[place + 2 :]
            ids += [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(ids))
            output = encoder(torch.tensor([ids]), output_hidden_states=True)
            states.append(output.hidden_states[-2])
        text = torch.cat(states, -1)
        word = text[0, place : place + count]
        fused = self._mlp(torch.cat([word, image], -1), "mlp1") + word
        fused = self._norm(self._mlp(fused, "mlp2") + fused, "fuse_module.layer_norm")
        return torch.cat([text[:, :place], fused[None], text[:, place + count :]], 1), output.text_embeds

    def plain(self, prompt, negative):
        return self.pipe.encode_prompt(
            prompt.replace(" img", ""), negative_prompt=negative, do_classifier_free_guidance=True
        )

    def latents(self, prompt, photos, negative, start_merge_step, guidance, generator, images, faces=None):
        merged, merged_pooled = self.embed(prompt, photos, faces)
        text, negative, pooled, negative_pooled = self.plain(prompt, negative)
        times = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]], dtype=torch.float32).expand(2 * images, 6)
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(STEPS)
        x = torch.randn(images, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
        for i, t in enumerate(scheduler.timesteps):
            now, now_pooled = (merged, merged_pooled) if i > start_merge_step else (text, pooled)
            states = torch.cat([negative.expand(images, -1, -1), now.expand(images, -1, -1)])
            added = {"text_embeds": torch.cat([negative_pooled.expand(images, -1), now_pooled.expand(images, -1)])}
            noisy = scheduler.scale_model_input(torch.cat([x, x]), t)
            both = self.pipe.unet(noisy, t, states, added_cond_kwargs=added | {"time_ids": times}).sample
            free, bound = both.chunk(2)
            x = scheduler.step(free + guidance * (bound - free), t, x, return_dict=False)[0]
        return x


class ReferenceV2(Reference):
    """Two tokens of a photo: from the face embedding, they read the picture in four blocks."""

    name = "qformer_perceiver"

    def _linear(self, x, name):
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def tokens(self, photos, faces):
        width = self.weights["fuse_module.layer_norm.weight"].shape[0]
        inside = F.gelu(self._linear(faces, f"{self.name}.token_proj.0"))
        x = self._linear(inside, f"{self.name}.token_proj.2").reshape(len(photos), 2, width)
        x = self._norm(x, f"{self.name}.token_norm")
        return (x + self.read(x, self.seen(photos).last_hidden_state)).reshape(2 * len(photos), width)

    def read(self, latents, image):
        inside = f"{self.name}.perceiver_resampler"
        image = self._linear(image, f"{inside}.proj_in")
        for block in range(4):
            latents = latents + self.attend(latents, image, f"{inside}.layers.{block}.0")
            forward = f"{inside}.layers.{block}.1"
            hidden = F.gelu(self._linear(self._norm(latents, f"{forward}.0"), f"{forward}.1"))
            latents = latents + self._linear(hidden, f"{forward}.3")
        return self._norm(self._linear(latents, f"{inside}.proj_out"), f"{inside}.norm_out")

    def attend(self, latents, image, name):
        """Heads of 128, or one where the text is less wide than that."""
        image, latents = self._norm(image, f"{name}.norm1"), self._norm(latents, f"{name}.norm2")
        query = self._linear(latents, f"{name}.to_q")
        key, value = self._linear(torch.cat([image, latents], 1), f"{name}.to_kv").chunk(2, -1)
        heads = max(1, query.shape[-1] // 128)
        query, key, value = (x.reshape(len(x), x.shape[1], heads, -1).permute(0, 2, 1, 3) for x in (query, key, value))
        weight = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        return self._linear((weight @ value).permute(0, 2, 1, 3).flatten(2), f"{name}.to_out")


@pytest.fixture(scope="module")
def content(tiny_base) -> tuple[dict, dict]:
    """A published adapter of random weights, as its `.bin` holds it, and its tower's shape."""
    torch.manual_seed(0)
    targets = ("to_q", "to_k", "to_v", "to_out.0")
    model = PhotoMaker(
        load_base(tiny_base), AdapterConfig(Stacked("stacked"), "repeat", 4, targets, 0, 16, "img", False)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.05
        model.id_encoder.fuse_module.layer_norm.weight *= 20  # an untrained U-Net hardly listens to its text
    state = adapter_state(model)
    parts = {part: strip(state, f"{part}.") for part in ("id_encoder", "lora_weights")}
    return parts, model.id_encoder.vision_config


@pytest.fixture(scope="module")
def reference(tiny_base, content) -> Reference:
    return Reference(tiny_base, *content)


@pytest.fixture(scope="module")
def pipeline(tiny_base, content, tmp_path_factory) -> PhotoMakerPipeline:
    folder = tmp_path_factory.mktemp("published")
    torch.save(content[0], folder / "photomaker-v1.bin")
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    pipeline.load_photomaker_adapter(folder, subfolder="", weight_name="photomaker-v1.bin", trigger_word="img")
    pipeline.fuse_lora()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = ((32, 32), (50, 41), (90, 33), (40, 77))
    small = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in sizes]
    return [image.resize(size, Image.BICUBIC) for image, size in zip(small, sizes, strict=True)]


PROMPT = "a photo of a man img, smiling, with glasses"


def test_safetensors_and_state_dicts_hold_the_same(tiny_base, content, pipeline, tmp_path):
    flat = {f"{part}.{key}": value for part, values in content[0].items() for key, value in values.items()}
    save_file(flat, tmp_path / "photomaker-v1.safetensors")
    other = PhotoMakerPipeline.from_pretrained(tiny_base, tmp_path)
    assert other.digest_of(None) == pipeline.digest_of(None)
    other.load_photomaker_adapter(content[0], adapter_name="given")
    assert other.digest_of("given") == pipeline.digest_of(None)
    assert other.id_encoder.vision_config == content[1]


@pytest.mark.parametrize("count", [1, 2, 4])
@torch.no_grad()
def test_same_prompt_embeddings(pipeline, reference, photos, count):
    (row,) = pipeline.prepare([Request(PROMPT, photos[:count], negative_prompt="a hat")])
    merged, pooled = reference.embed(PROMPT, photos[:count])
    text, negative, text_pooled, negative_pooled = reference.plain(PROMPT, "a hat")
    ours = row.conditioning
    found = (ours.embeds, ours.pooled, ours.text_embeds, ours.text_pooled, row.negative.embeds, row.negative.pooled)
    for mine, theirs in zip(found, (merged, pooled, text, text_pooled, negative, negative_pooled), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert not torch.allclose(merged, text, atol=1e-2)


@pytest.mark.parametrize(
    ("schedule", "count", "negative", "start", "images"),
    [("ddim", 3, None, 4, 1), ("euler", 1, "a blue hat", 10, 2), ("euler", 2, "", 0, 1)],
)
@torch.no_grad()
def test_same_latents_after_20_steps(pipeline, reference, photos, schedule, count, negative, start, images):
    reference.pipe.scheduler = KINDS[schedule].from_config(reference.pipe.scheduler.config)
    pipeline.scheduler = KINDS[schedule].from_config(pipeline.scheduler.config)
    expected = reference.latents(PROMPT, photos[:count], negative, start, 5.0, torch.Generator().manual_seed(3), images)
    ours = pipeline(
        prompt=PROMPT,
        input_id_images=photos[:count],
        negative_prompt=negative,
        num_images_per_prompt=images,
        num_inference_steps=STEPS,
        start_merge_step=start,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=0)
    without = reference.latents(PROMPT, photos[:count], negative, 99, 5.0, torch.Generator().manual_seed(3), images)
    assert (without - expected).abs().max() > 2e-2


@pytest.fixture(scope="module")
def v2(tiny_base, tmp_path_factory) -> tuple[Reference, PhotoMakerPipeline]:
    """A published V2 adapter of random weights, in both."""
    torch.manual_seed(0)
    targets = ("to_q", "to_k", "to_v", "to_out.0")
    face = FaceEmbedding("", "", FACE)
    choice = PhotoMakerV2Choice("photomaker_v2", 16, "img", False, "repeat", 2, 4, 4, targets, 0, face)
    model = choice.build(load_base(tiny_base))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.05
        model.id_encoder.fuse_module.layer_norm.weight *= 5  # as above; rounding grows with it
    state, folder = adapter_state(model), tmp_path_factory.mktemp("published")
    parts = {part: strip(state, f"{part}.") for part in ("id_encoder", "lora_weights")}
    torch.save(parts, folder / "photomaker-v2.bin")
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    pipeline.load_photomaker_adapter(folder, weight_name="photomaker-v2.bin", trigger_word="img", pm_version="v2")
    pipeline.set_progress_bar_config(disable=True)
    return ReferenceV2(tiny_base, parts, model.id_encoder.vision_config), pipeline


FACE = 24
FACES = 3 * torch.randn(4, FACE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("count", [1, 2, 4])
@torch.no_grad()
def test_same_prompt_embeddings_of_v2(v2, photos, count):
    reference, pipeline = v2
    (row,) = pipeline.prepare([Request(PROMPT, photos[:count], face_embeds=FACES[:count])])
    merged, pooled = reference.embed(PROMPT, photos[:count], FACES[:count])
    torch.testing.assert_close(row.conditioning.embeds, merged, atol=1e-5, rtol=0)
    torch.testing.assert_close(row.conditioning.pooled, pooled, atol=1e-5, rtol=0)
    assert (merged != row.conditioning.text_embeds).any(-1).sum() >= 2 * count


@pytest.mark.parametrize(("count", "start", "images"), [(3, 4, 1), (1, 10, 2)])
@torch.no_grad()
def test_same_latents_of_v2_after_20_steps(v2, photos, count, start, images):
    reference, pipeline = v2
    for one in (reference.pipe, pipeline):
        one.scheduler = EulerDiscreteScheduler.from_config(one.scheduler.config)
    seed = torch.Generator
    expected = reference.latents(
        PROMPT, photos[:count], "a hat", start, 5.0, seed().manual_seed(3), images, FACES[:count]
    )
    ours = pipeline(
        PROMPT,
        input_id_images=photos[:count],
        id_embeds=FACES[:count],
        negative_prompt="a hat",
        num_images_per_prompt=images,
        num_inference_steps=STEPS,
        start_merge_step=start,
        generator=seed().manual_seed(3),
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=0)
    others = reference.latents(
        PROMPT, photos[:count], "a hat", start, 5.0, seed().manual_seed(3), images, -FACES[:count]
    )
    assert (others - expected).abs().max() > 1e-2
