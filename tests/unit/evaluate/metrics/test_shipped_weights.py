"""The weights that metrics ship are those that their NOTICE names, and nothing else lies beside them."""

import hashlib
import re

import pytest

from pm.errors import CheckpointError
from pm.evaluate.models.files import packaged, shipped
from pm.weights import fingerprint


def test_each_file_has_the_checksum_of_its_notice():
    notice = shipped("NOTICE").read_text()
    files = [file for file in shipped("").iterdir() if file.name != "NOTICE"]
    assert len(files) == 2
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        (section,) = re.findall(rf"^{file.name}\n(.*?)(?:\n\n|\Z)", notice, re.M | re.S)
        assert section.rstrip().endswith(f"sha256 {digest}"), file.name
        assert fingerprint(file) == digest[:16] and file.stat().st_size < 2_000_000


def test_a_package_that_is_not_installed_says_how_to_get_it():
    with pytest.raises(CheckpointError, match=r"no_such_weights with a.pth is not installed; run pip .*metrics"):
        packaged("no_such_weights", "b/a.pth")
