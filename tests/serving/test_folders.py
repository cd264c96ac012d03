"""Runs, datasets and evaluations over HTTP: what is shown, to whom, and that nothing else is."""

import asyncio
import dataclasses
import io
import json

import pytest
from PIL import Image
from support.places import write_places


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run, a dataset and an evaluation, and beside them what is nobody's business."""
    folder = write_places(tmp_path_factory.mktemp("places"))
    (folder / "secret.png").write_bytes(b"secret")
    return folder


@pytest.fixture
def ask(make_client, places, config):
    """`ask(path, ...)`: the answer of a service that shows these places."""

    def call(path, method="GET", runs=True, keys=None, host="localhost", edit=False, **options):
        async def go():
            async with make_client(keys=keys) as client:
                shown = {"runs": str(places / "runs"), "data": str(places / "data")} if runs else {}
                studio = dataclasses.replace(config.studio, edit=edit, **shown)
                client.service.config = dataclasses.replace(client.service.config, studio=studio)
                return await client.request(method, f"http://{host}{path}", **options)

        return asyncio.run(go())

    return call


def test_a_run_is_shown_as_it_is(ask):
    (run,) = ask("/v1/runs").json()["data"]
    assert (run["name"], run["status"], run["step"]) == ("sweep/one", "finished", 2)
    details = ask("/v1/runs/details?name=sweep/one").json()
    assert details["settings"]["train.steps"] == 2 and details["pictures"][0]["step"] == 2
    assert ask("/v1/runs/curves?name=sweep/one").json()["step"] == [1, 2]
    picture = ask(f"/v1/runs/picture?file={details['pictures'][0]['file']}")
    assert Image.open(io.BytesIO(picture.content)).size == (24, 8)
    assert ask("/v1/runs/adapter?name=sweep/one").content == b"weights"
    assert ask("/v1/runs/differences?first=sweep/one&second=sweep/one").json()["data"] == []


def test_a_dataset_is_shown_with_people_photos_and_rejects(ask):
    (dataset,) = ask("/v1/datasets").json()["data"]
    assert (dataset["name"], dataset["people"], dataset["photos"]) == ("mine", 2, 5)
    overview = ask("/v1/datasets/overview?name=mine").json()
    assert overview["funnel"] and sum(each["count"] for each in overview["rejects"]) == 2
    people = ask("/v1/datasets/people?name=mine&search=ANNA").json()
    assert people["total"] == 1 and people["people"][0]["photos"] == 3
    photos = ask("/v1/datasets/person?name=mine&identity=ben_man").json()["photos"]
    assert len(photos) == 2 and all(photo["caption"] for photo in photos)
    for kind in ("crop", "person"):
        picture = ask(f"/v1/datasets/picture?name=mine&number={photos[1]['number']}&kind={kind}&side=40")
        assert Image.open(io.BytesIO(picture.content)).size == (40, 40)
    rejects = ask("/v1/datasets/rejects?name=mine&limit=1").json()
    assert rejects["total"] == 2 and len(rejects["photos"]) == 1 and rejects["photos"][0]["reason"]
    word = photos[0]["caption"].split()[-1]
    assert ask(f"/v1/datasets/people?name=mine&search={word}").json()["total"] >= 1


def test_an_evaluation_is_shown_down_to_its_pictures(ask):
    (report,) = ask("/v1/evaluations").json()["data"]
    assert report["name"] == "evaluate" and report["page"] and report["rows"] == ["row one", "row two"]
    details = ask("/v1/evaluations/details?name=evaluate").json()
    best, worse = details["rows"]
    assert best["values"]["identity"]["mean"] > worse["values"]["identity"]["mean"]
    people = ask(f"/v1/evaluations/pictures?name=evaluate&key={best['key']}").json()["people"]
    assert set(people) == set(best["people"]["identity"]) and all(people.values())
    file = next(iter(people.values()))[0]
    assert ask(f"/v1/evaluations/picture?name=evaluate&file={file}").headers["content-type"] == "image/png"
    page = ask("/v1/evaluations/page?name=evaluate", "POST")
    assert "<html" in page.text and page.headers["content-security-policy"].startswith("sandbox allow-scripts")


def test_nothing_else_is_read(ask):
    for path in (
        "/v1/runs/picture?file=../secret.png",
        "/v1/runs/picture?file=sweep/one/config.yaml",
        "/v1/runs/details?name=../data/mine",
        "/v1/evaluations/picture?name=evaluate&file=../../secret.png",
        "/v1/datasets/overview?name=/etc",
        "/v1/datasets/picture?name=mine&number=99",
    ):
        answer = ask(path)
        assert answer.status_code == 404 and "secret" not in answer.text.replace("secret.png", ""), path
    assert ask("/v1/datasets/picture?name=mine&number=-1").json()["error"]["param"] == "number"
    unset = ask("/v1/runs", runs=False)
    assert unset.status_code == 404 and "studio.runs=FOLDER" in unset.json()["error"]["message"]


def test_no_other_site_and_nobody_without_a_key_looks(ask, tmp_path):
    from serving.http.keys import Key, KeyFile, hash_key, write_keys

    assert ask("/v1/runs", host="evil.example").status_code == 403  # a name that leads to this machine
    url = "/v1/evaluations/page?name=evaluate"
    assert ask(url, "POST", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert ask("/v1/runs", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    write_keys(tmp_path / "keys.yaml", {"alice": Key(hash_key("secret"), None, None)})
    keys = KeyFile(tmp_path / "keys.yaml")
    assert ask("/v1/runs", keys=keys).status_code == 401 and ask(url, "POST", keys=keys).status_code == 401
    assert ask("/v1/runs", keys=keys, host="studio.example", headers={"authorization": "Bearer secret"}).is_success
    assert ask(url, "POST", keys=keys, content="key=secret").is_success


def test_what_is_sent_is_plain_json(ask):
    for path in ("/v1/runs", "/v1/datasets", "/v1/evaluations", "/v1/evaluations/details?name=evaluate"):
        json.loads(ask(path).text, parse_constant=pytest.fail)  # NaN is none


def test_a_correction_waits_and_can_be_taken_back(ask):
    url, edit = "/v1/datasets/edits", {"edit": "forget", "who": "ben_man", "why": "asked to"}
    assert ask(url, "POST", json={"name": "mine", "edit": edit}).status_code == 403  # unless it was allowed
    (waiting,) = ask(url, "POST", edit=True, json={"name": "mine", "edit": edit}).json()["pending"]
    assert waiting["who"] == "ben_man" and waiting["when"]
    assert ask(f"{url}?name=mine").json()["pending"] == [waiting]
    wrong = ask(url, "POST", edit=True, json={"name": "mine", "edit": {"edit": "reject", "photo": "nobody/1.png"}})
    assert wrong.status_code == 404 and "nobody/1.png" in wrong.json()["error"]["message"]
    assert ask(url, "POST", edit=True, json={"name": "../data/mine", "edit": edit}).status_code == 404
    assert ask(f"{url}/undo", "POST", edit=True, json={"name": "mine"}).json()["pending"] == []
