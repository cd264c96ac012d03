from datetime import date

import pytest
import yaml
from support.photos import source

from pipelines._consent import main as consent_command
from pm.data.consent.record import Consent, parse
from pm.data.source.listing import Listing
from pm.data.source.manifest import manifest_rows
from pm.data.source.rules import Rules
from pm.errors import DataError

GIVEN = {"by": "Anna", "when": "2026-01-31"}
DAY = date(2026, 11, 27)


@pytest.mark.parametrize(
    "said, state",
    [
        (GIVEN, "valid"),
        ({}, "missing"),
        ({"when": "2026-01-31"}, "missing"),
        (GIVEN | {"until": "2026-11-27"}, "valid"),
        (GIVEN | {"until": "2026-11-26"}, "expired"),
        (GIVEN | {"when": "2026-11-28"}, "not_yet"),
        (GIVEN | {"withdrawn": "2026-11-27", "until": "2030-01-01"}, "withdrawn"),
        (GIVEN | {"for": "research; training"}, "valid"),
        (GIVEN | {"for": ["evaluation"]}, "other_purpose"),
    ],
)
def test_a_consent_holds_for_its_days_and_purposes(said, state):
    assert parse(said, "here").state("training", DAY) == state


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("consent.yaml", "p0_man: {by: Anna, wehn: 2026-01-31}", "p0_man: 'wehn' is not known.*by, when"),
        ("consent.yaml", "p0_man: {by: Anna, when: soon}", "when='soon' is not a date; write it as 2026-01-31"),
        ("consent.yaml", "p0_man: [", "consent.yaml cannot be read"),
        ("consent.csv", "person,who\np0_man,Anna\n", "has the column who; known are person, photo, by"),
        ("consent.csv", "person,by\n,Anna\n", "line 2 says no person"),
    ],
)
def test_what_is_written_wrongly_is_said_with_its_place(root, name, text, message):
    (root / name).write_text(text)
    with pytest.raises(DataError, match=message), Listing(source(root)):
        pass


def test_manifests_have_consents_in_columns(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("identity,url,consent_by,consent_when,consent_for\n007,http://h/a.jpg,James,2026-01-02,training\n")
    (row,) = manifest_rows(str(path))
    assert row.identity == "007" and row.consent == Consent("James", "2026-01-02", purposes=("training",))
    path.write_text("identity,url,consent_when\na,http://h/a.jpg,never\n")
    with pytest.raises(DataError, match="people.csv, http://h/a.jpg: when='never' is not a date"):
        list(manifest_rows(str(path)))


def test_the_template_is_filled_in_step_by_step(root, capsys):
    consent_command(["template", str(root)])
    content = yaml.safe_load((root / "consent.yaml").read_text())
    assert list(content) == ["p0_man", "p1_man", "p2_man"]
    with Listing(source(root), Rules(purpose="training", today=DAY)) as listing:  # an empty form is no consent
        assert {photo.reject.reason for photo in listing.photos()} == {"no_consent"}
    (root / "consent.yaml").write_text("# mine\np1_man: {by: Bert, when: 2026-01-01, until: 2020-01-01}\n")
    consent_command(["template", str(root)])
    assert (root / "consent.yaml").read_text().startswith("# mine\np1_man: {by: Bert")
    assert set(yaml.safe_load((root / "consent.yaml").read_text())) == {"p0_man", "p1_man", "p2_man"}
    consent_command(["check", str(root)])
    said = capsys.readouterr().out
    assert "p1_man: expired 4 of 4 photos, until 2020-01-01" in said and "missing 8, expired 4" in said
    with pytest.raises(SystemExit, match=r"has everybody already \(3\)"):
        consent_command(["template", str(root)])
