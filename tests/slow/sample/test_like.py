"""A picture is made again from its own file: the same bytes, or what was changed and nothing else."""

import json
import shutil

import pytest
from support.generating import config as configured
from support.generating import settings as plain

from pm.errors import CheckpointError, ConfigError, RequestError
from pm.sample.like import repeat_of
from pm.sample.output_file import picture_bytes, read_about
from pm.sample.run import generate


@pytest.fixture
def made(tiny_base, adapter_files, tmp_path):
    """A run's folder, and a function: picture → the folder of its repetition, with other settings."""
    adapter = shutil.copy(adapter_files["one"], tmp_path / "a.safetensors")
    args = (tiny_base, adapter, tmp_path)
    folder = generate(configured(*args, "sampler.guidance=3", "scale=null"), progress=False)

    def again(picture, *overrides):
        out = tmp_path / f"again-{len(list(tmp_path.iterdir()))}"
        given = [text.partition("=")[0] for text in overrides]
        # Defaults of another day: what the picture says must win over them.
        others = ("sampler.guidance=9", "prompt='a woman img'", "seed=99", "images=1")
        values = plain(*args, *others, f"output={out}", *overrides)
        repeat = repeat_of(picture, values, ["output", *given])
        return generate(repeat.config, progress=False, repeat=repeat)

    return folder, again


def test_the_same_bytes_of_a_picture_in_any_place_of_its_batch(made):
    folder, again = made
    for number in (1, 2):  # the second of two, and one that was alone
        assert (again(folder / f"000{number}.png") / "0000.png").read_bytes() == (
            folder / f"000{number}.png"
        ).read_bytes()


def test_the_same_bytes_of_a_whole_run(made):
    folder, again = made
    other = again(folder / "grid.png")
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(path.name for path in other.iterdir())
    assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_other_settings_change_only_what_they_name(made):
    folder, again = made
    before = json.loads(read_about(folder / "0001.png")["settings"])
    after = json.loads(read_about(again(folder / "0001.png", "sampler.steps=3") / "0000.png")["settings"])
    assert after["sampler"].pop("steps") == 3 and before["sampler"].pop("steps") == 2
    assert before == after and before["seed"] == 6
    assert len(list(again(folder / "0001.png", "images=2").glob("0*.png"))) == 2
    wide = json.loads(read_about(again(folder / "0001.png", "aspect=2:1") / "0000.png")["settings"])
    assert (wide["aspect"], wide["width"]) == ("2:1", None)


def test_a_repetition_can_be_repeated(made):
    folder, again = made
    first = again(folder / "0000.png", "format=webp") / "0000.webp"
    assert (again(first) / "0000.webp").read_bytes() == first.read_bytes()


def test_what_is_not_there_any_more_is_named(made, tmp_path):
    folder, again = made
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    with pytest.raises(RequestError, match=r"not there or have changed since: id_images .*1.png \(sha256 "):
        repeat_of(folder / "0000.png", {}, [])
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(RequestError, match=r"adapter .*a.safetensors \(sha256 [0-9a-f]{16}\), id_images .*others: a"):
        repeat_of(folder / "0000.png", {}, [])


def test_photos_are_found_beside_the_picture_by_their_contents(made, tiny_base, tmp_path):
    folder, _ = made
    values = plain(tiny_base, tmp_path / "a.safetensors", tmp_path, f"output={folder}/elsewhere")
    first = (folder / "0000.png").read_bytes()
    shutil.move(tmp_path / "0.png", folder / "renamed.png")
    repeat = repeat_of(folder / "0000.png", values, ["output"])
    assert repeat.config.id_images == (str(folder / "renamed.png"), str(tmp_path / "1.png"))
    assert read_about(first)["seed"] == "5"


def test_another_base_is_refused_unless_it_is_asked_for(made, tmp_path):
    from pm.toon.base import write_random_base

    folder, again = made
    about = read_about(folder / "0000.png") | {"base_fingerprint": "0" * 16}
    from PIL import Image

    with Image.open(folder / "0000.png") as image:
        (tmp_path / "other.png").write_bytes(picture_bytes(image.convert("RGB"), about, "png", 100))
    with pytest.raises(CheckpointError, match="other.png was made on base 0000000000000000, but .* give that base"):
        again(tmp_path / "other.png")
    other = str(write_random_base(tmp_path / "new", size="tiny", seed=1))
    folder = again(folder / "0000.png", f"base.path={other}", "check_base=false")
    assert json.loads(read_about(folder / "0000.png")["settings"])["base"]["path"] == other


def test_no_picture_of_ours_is_one_line(made, tmp_path):
    folder, again = made
    with pytest.raises(RequestError, match="0.png does not say how it was made; like= takes pictures of generate"):
        again(tmp_path / "0.png")
    with pytest.raises(RequestError, match="nowhere.png cannot be read"):
        again("nowhere.png")
    with pytest.raises(ConfigError, match="steps"):
        again(folder / "0000.png", "sampler.steps=0")
