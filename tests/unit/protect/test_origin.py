"""Where a picture comes from: manifest and watermark, and what is left of them after edits."""

import io
import json
import stat

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pipelines._verify import main
from pm.errors import ConfigError
from pm.protect.certificates import local_chain, local_file, signing_key
from pm.protect.checks.check import CheckChoice, Gate, Refused
from pm.protect.config import ProtectConfig, SignatureConfig
from pm.protect.protector import Protector
from pm.protect.verify import verify
from pm.protect.watermarks.spread import Spread
from pm.sample.output_file import picture_bytes, read_about

MARK = Spread("spread", 1.0, 1234, None, 7.0)


@pytest.fixture
def protector(tmp_path, monkeypatch) -> Protector:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    local_chain.cache_clear()
    yield Protector(ProtectConfig(SignatureConfig(None, None, None, False), MARK, None, None))
    local_chain.cache_clear()


def picture(side: int) -> Image.Image:
    noise = np.random.default_rng(side).normal(size=(side, side, 3))
    smooth = ndimage.gaussian_filter(noise, (6, 6, 0))
    return Image.fromarray((128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_every_format_is_signed_and_keeps_its_text(protector, format):
    about = {"prompt": "a secret wish", "base_fingerprint": "0123456789abcdef", "seed": 3}
    file = picture_bytes(picture(64), about, format, 100, protector=protector)
    assert read_about(file) == {key: str(value) for key, value in about.items()}
    origin = verify(file, MARK)
    said = origin.signature
    assert said.valid and said.made_by_ai and said.local and not said.trusted and not origin.watermark.found
    assert said.made["base"] == "0123456789abcdef" and "64 px" in said.made["watermark"]
    assert "a secret wish" not in json.dumps(said.made)
    assert stat.S_IMODE(local_file().stat().st_mode) == 0o600
    root = local_file().read_text().split("-----END CERTIFICATE-----\n")[1] + "-----END CERTIFICATE-----\n"
    assert verify(file, MARK, root).signature.trusted
    if format != "png":  # whose reader refuses a text that was changed
        changed = verify(file.replace(b"a secret wish", b"a secret fish"), MARK).signature
        assert changed.found and not changed.valid and "assertion.dataHash.mismatch" in changed.problems


def test_the_mark_outlives_jpeg_and_halving(protector, tmp_path, capsys):
    plain = picture(512)
    file = picture_bytes(plain, {}, "png", 95, protector=protector)
    marked = Image.open(io.BytesIO(file))
    change = np.asarray(marked, float) - np.asarray(plain, float)
    assert 10 * np.log10(255**2 / np.mean(change**2)) > 40
    half = io.BytesIO()
    marked.resize((256, 256), Image.Resampling.LANCZOS).save(half, "JPEG", quality=75)
    (tmp_path / "a.jpg").write_bytes(half.getvalue())
    main([str(tmp_path / "a.jpg"), "--json"])
    found = json.loads(capsys.readouterr().out)["pictures"][0]
    assert found["watermark"]["number"] == 1234 and not found["signature"]["found"]
    assert "manifest is missing" in found["verdict"]


def test_unreadable_keys_are_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.pem cannot be read"):
        signing_key(str(tmp_path / "nowhere.pem"), "x")
    with pytest.raises(ConfigError, match="key is not set"):
        SignatureConfig("a.pem", None, None, False)


@pytest.mark.parametrize("policy", ["refuse", "blur", "report", "off"])
def test_policies(policy):
    class Bright(CheckChoice):
        finds = "light"

        def build(self):
            return lambda image: float(np.asarray(image).mean() / 255)

    gate = Gate(Bright("bright", 0.5, policy), "results")
    dark, light = (
        Image.new("RGB", (64, 64)),
        Image.fromarray(np.tile(np.uint8([[[255] * 3], [[150] * 3]]), (32, 64, 1))),
    )
    assert gate.check(dark).policy is None and gate.check(dark).image is dark
    if policy == "refuse":
        with pytest.raises(Refused, match="found light"):
            gate.check(light)
        return
    checked = gate.check(light)
    assert checked.policy == (None if policy == "off" else policy)
    assert (np.asarray(checked.image).std() < 25) == (policy == "blur")
