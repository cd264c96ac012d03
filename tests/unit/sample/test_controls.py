"""What a request may say of controls and image prompts, and which networks fit a base."""

import json

import numpy as np
import pytest
from PIL import Image
from support.pictures import picture, write_controlnet, write_t2i_adapter
from support.sampling import write_ip_adapter

from pm.errors import CheckpointError, RequestError
from pm.sample.controls import ControlImage, canny, control_notes, row_control
from pm.sample.pictures import PromptImages
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files["one"])
    pipeline.load_control(write_controlnet(tiny_base, folder / "net"), "pose")
    pipeline.load_image_prompt(write_ip_adapter(tiny_base, folder / "ip.safetensors"), "ip")
    return pipeline


def test_the_identity_stays_the_default_adapter(pipeline):
    assert pipeline.adapters == ("ip", "photomaker") and pipeline.controls == ("pose",)
    assert pipeline.trigger_word == "img"


@pytest.mark.parametrize(
    ("control", "message"),
    [
        (ControlImage(image=picture(), name="depth"), "control 'depth' is not loaded; controls that are loaded: pose"),
        (ControlImage(image="pose.png"), "the picture of control 1 is a str; give a Pillow image"),
        (ControlImage(image=picture(), scale=-1), "scale=-1 of control 1 must be 0 or more"),
        (ControlImage(image=picture(), scale=float("nan")), "scale=nan of control 1"),
        (ControlImage(image=picture(), start=2), "start of control 1=2 must be a number from 0 to 1"),
        (ControlImage(image=picture(), name="pose", start=0.7, end=0.5), "control 'pose' starts at 0.7 and ends at"),
        (
            ControlImage(image=picture(), preprocess="depth"),
            "preprocess='depth' of control 1 is not",
        ),
    ],
)
def test_controls_that_cannot_be_are_refused(pipeline, control, message):
    with pytest.raises(RequestError, match=message):
        pipeline.check(Request("a man", adapter="base", controls=[control]))


@pytest.mark.parametrize("controls", [None, [None], [{"image": 1}], "pose.png", ControlImage(image=picture())])
def test_controls_are_a_list_of_their_own_type(pipeline, controls):
    with pytest.raises(RequestError, match="controls must be a list of ControlImage, not"):
        pipeline.check(Request("a man", adapter="base", controls=controls))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_prompt": "style.png"}, "image_prompt must be PromptImages, not 'style.png'"),
        ({"image_prompt": PromptImages([])}, "image_prompt has 0 pictures; this IP-Adapter takes 1 to 4"),
        ({"image_prompt": PromptImages([picture()], -1)}, "scale=-1 of image_prompt"),
        ({"image_prompt": PromptImages(["a.png"])}, "picture 1 of image_prompt is a str"),
        ({"image_prompt": PromptImages([picture()], adapter="photomaker")}, "IP-Adapters that are loaded: ip"),
        (
            {"adapter": "ip", "id_images": [picture()], "image_prompt": PromptImages([picture()])},
            "is an image prompt",
        ),
    ],
)
def test_image_prompts_that_cannot_be_are_refused(pipeline, changes, message):
    with pytest.raises(RequestError, match=message):
        pipeline.check(Request(**{"prompt": "a man", "adapter": "base"} | changes))


def test_a_window_is_of_the_steps_that_the_row_does(pipeline):
    def acts(start: float, end: float, first: int) -> str:
        control = ControlImage(image=picture(), start=start, end=end)
        found = row_control(pipeline.control(None), control, (32, 32), first, 10)
        return "".join("x" if on else "." for on in found.acts)

    assert acts(0, 1, 0) == "x" * 10
    assert acts(0.2, 0.5, 0) == "..xxx....."
    assert acts(0, 0.5, 6) == "......xx.."
    assert acts(0.6, 0.61, 0) == "." * 10


def test_a_plan_that_ends_before_the_row_begins_is_refused(pipeline):
    own = Request("a man", adapter="base", image=picture(), strength=0.2, steps=10)
    assert pipeline.row_controls(own, 9) == ()
    with pytest.raises(RequestError, match="strength=0.2 begins at step 8, and the plan ends at step 8"):
        pipeline.row_controls(own, 8)


def test_edges_are_white_on_black_where_a_picture_changes():
    image = Image.new("RGB", (32, 32))
    image.paste("white", (8, 8, 24, 24))
    edges = np.asarray(canny(image))
    assert set(np.unique(edges)) == {0, 255} and edges.shape == (32, 32, 3)
    assert not edges[:4].any() and not edges[14:18, 14:18].any() and edges[6:10, 10:22].any()


def test_notes_say_that_a_picture_was_fitted():
    controls = [ControlImage(image=picture(0, (64, 32))), ControlImage(image=picture(0, (32, 32)))]
    assert control_notes(controls, (32, 32)) == [
        "control image 1 of 64 x 32 pixels was scaled, and its middle cut out: 32 x 32"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "ControlNetUnionModel"}, "is a ControlNetUnionModel; give a ControlNet"),
        ({"cross_attention_dim": 768}, "cross_attention_dim is 768, the U-Net's is 80"),
        ({"block_out_channels": [320, 640]}, r"block_out_channels is \[320, 640\]"),
        ({"global_pool_conditions": True}, "pools its picture"),
        ({"conditioning_embedding_out_channels": [16, 32, 96, 256]}, "has 8 pixels for each latent, the VAE's has 4"),
        ({"in_channels": 9}, "sees 9 channels"),
    ],
)
def test_networks_of_other_bases_are_refused(pipeline, tiny_base, tmp_path, changes, message):
    file = write_controlnet(tiny_base, tmp_path / "net") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        pipeline.load_control(file.parent, "other")
    assert pipeline.controls == ("pose",)


def test_adapters_of_other_bases_are_refused_and_sd15_has_no_time_ids(pipeline, tiny_base, tiny_sd15, tmp_path):
    file = write_t2i_adapter(tiny_base, tmp_path / "t2i") / "config.json"
    config = json.loads(file.read_text())
    for changes, message in (({"channels": [320, 640]}, "channels are"), ({"downscale_factor": 16}, "has 16 pixels")):
        file.write_text(json.dumps(config | changes))
        with pytest.raises(CheckpointError, match=message):
            pipeline.load_control(file.parent)
    with pytest.raises(CheckpointError, match="missing"):
        pipeline.load_control(tmp_path)
    other = PhotoMakerPipeline.from_pretrained(tiny_sd15)
    with pytest.raises(CheckpointError, match="does not fit base"):
        other.load_control(write_controlnet(tiny_base, tmp_path / "net"))
