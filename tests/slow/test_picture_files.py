"""`generate` with a picture to change, controls and an image prompt, from the command line's own words."""

import json

import numpy as np
import pytest
from PIL import Image
from support.pictures import clear_right, half, picture, write_controlnet, write_t2i_adapter
from support.sampling import write_adapter, write_ip_adapter

from pm.config import from_mapping
from pm.errors import ConfigError, RequestError
from pm.sample.config import GenerateConfig
from pm.sample.run import generate
from serving.compose import composed


@pytest.fixture(scope="module")
def files(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    picture(1).save(folder / "photo.png")
    picture(2).save(folder / "picture.png")
    half().save(folder / "mask.png")
    clear_right(picture(2)).save(folder / "clear.png")
    write_adapter(tiny_base, folder / "a.safetensors")
    write_ip_adapter(tiny_base, folder / "ip.safetensors")
    write_controlnet(tiny_base, folder / "net")
    write_t2i_adapter(tiny_base, folder / "t2i")
    return folder


def config(tiny_base, files, output, *overrides, adapter=True) -> GenerateConfig:
    own = [
        f"base.path={tiny_base}",
        f"base.vision_path={tiny_base}/image_encoder",
        f"adapter={files / 'a.safetensors' if adapter else 'null'}",
        f"prompt='a man{' img' * adapter} in a red shirt'",
        "sampler.steps=3",
        "images=1",
        "preprocess=none",
        f"output={output}",
    ]
    photos = [f"id_images=[{files / 'photo.png'}]"] if adapter else []
    return from_mapping(GenerateConfig, composed("generate", [*own, *photos, *overrides]))


def made(config: GenerateConfig) -> tuple[np.ndarray, dict]:
    with Image.open(generate(config, progress=False) / "0000.png") as image:
        return np.asarray(image).astype(int), dict(image.text)


def test_pictures_are_used_and_written_down(tiny_base, files, tmp_path, capsys):
    def ask(name, *overrides, adapter=True):
        return made(config(tiny_base, files, tmp_path / name, *overrides, adapter=adapter))

    image, mask = f"image={files / 'picture.png'}", f"mask_image={files / 'mask.png'}"
    net = f"controls=[{{path:{files / 'net'},image:{files / 'photo.png'},scale:0.8,preprocess:canny}},"
    net += f"{{path:{files / 't2i'},image:{files / 'photo.png'},end:0.5}}]"
    style = f"image_prompt={{adapter:{files / 'ip.safetensors'},images:[{files / 'photo.png'}],scale:0.5}}"
    asked = {
        "plain": (),
        "changed": (image, "strength=0.7"),
        "masked": (image, mask),
        "controlled": (net,),
        "styled": (style,),
        "all": (image, mask, net, style),
    }
    found = {name: ask(name, *overrides) for name, overrides in asked.items()}
    pictures = [pixels for pixels, _ in found.values()]
    assert all(not np.array_equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    said = found["all"][1]
    assert said["image"].endswith("picture.png") and said["mask_image"].endswith("mask.png")
    assert found["changed"][1]["strength"] == "0.7" and "image" not in found["plain"][1]
    assert [each["end"] for each in json.loads(said["controls"])] == [1.0, 0.5]
    assert json.loads(said["image_prompt"])["scale"] == 0.5
    # The style beside the base alone, which stays the base.
    ask("base", style, adapter=False)
    # What is transparent is the mask.
    clear, _ = ask("clear", f"image={files / 'clear.png'}")
    assert "image has transparent parts" in capsys.readouterr().out
    assert clear.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["image=nowhere.png"], RequestError, "image=nowhere.png does not exist"),
        (["image={base}/model_index.json"], RequestError, "cannot be read"),
        (["strength=0.5"], RequestError, "strength is of the picture to change"),
        (["strength=0"], ConfigError, "strength=0.0 must be above 0"),
        (["mask_image={files}/mask.png"], RequestError, "mask_image is of the picture to change"),
        (["controls=[{{path:x}}]"], ConfigError, r"controls\[0\].image is missing"),
        (["controls=[{{path:x,image:y,scale:-1}}]"], ConfigError, "scale=-1.0 must be at least 0"),
        (["controls=[{{path:x,image:y,size:1}}]"], ConfigError, "unknown config key"),
    ],
)
def test_mistakes_are_one_line(tiny_base, files, tmp_path, overrides, error, message):
    told = [each.format(base=tiny_base, files=files) for each in overrides]
    with pytest.raises(error, match=message):
        generate(config(tiny_base, files, tmp_path / "out", *told), progress=False)
