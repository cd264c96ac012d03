"""Whose pages may use the service from somebody's browser."""

import asyncio
import dataclasses

import pytest

from pm.errors import ConfigError
from serving.config import HttpConfig
from serving.http.keys import Key, KeyFile, hash_key, write_keys
from serving.http.origin import Guard, is_local

OWN = "http://127.0.0.1:8000"


def guard(host="127.0.0.1", keys=False, origins=()):
    return Guard(lambda *_: None, HttpConfig(host, 8000, 0, tuple(origins)), keys)


@pytest.mark.parametrize(
    "method, headers, fine",
    [
        ("POST", {}, True),  # programs: curl, the openai client
        ("POST", {"origin": OWN}, True),
        ("POST", {"origin": OWN, "sec-fetch-site": "same-origin"}, True),
        ("POST", {"origin": "https://evil.example"}, False),
        ("POST", {"origin": "null"}, False),  # a sandboxed frame, a file
        ("POST", {"origin": "http://127.0.0.1:9000"}, False),  # another program of this machine
        ("POST", {"origin": "http://127.0.0.1:9000", "sec-fetch-site": "same-site"}, False),
        ("POST", {"sec-fetch-site": "cross-site"}, False),
        ("DELETE", {"origin": "https://evil.example"}, False),
        ("GET", {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, True),  # cannot read the answer
        ("POST", {"origin": "https://mine.example", "sec-fetch-site": "cross-site"}, True),
    ],
)
def test_pages_of_other_sites_are_refused(method, headers, fine):
    problem = guard(origins=["https://mine.example"]).problem(method, {"host": "127.0.0.1:8000", **headers})
    assert (problem is None) == fine, problem


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.9.9.9", "a.localhost", ""])
def test_a_service_for_this_machine_answers_to_its_names_alone(method, name):
    assert guard().problem(method, {"host": name}) is None
    rebound = {"host": "evil.example:8000", "origin": "http://evil.example:8000", "sec-fetch-site": "same-origin"}
    assert "not for the name 'evil.example:8000'" in guard().problem(method, rebound)
    assert guard(keys=True).problem(method, rebound) is None  # such a page has no key
    assert guard(host="0.0.0.0").problem(method, rebound) is None  # for other machines: it has names
    assert guard(origins=["http://evil.example:8000"]).problem(method, rebound) is None


def test_names_that_a_public_site_can_have_are_not_local():
    assert is_local("portraits") and not is_local("portraits.example") and not is_local("10.0.0.3")


@pytest.mark.parametrize("wrong", ["example.org", "https://example.org/", "ftp://x", "https://", "*"])
def test_a_wrong_origin_is_said(wrong):
    with pytest.raises(ConfigError, match="write it as https://"):
        HttpConfig("127.0.0.1", 8000, 0, (wrong,))


def test_the_application_answers_other_sites_and_keys_that_ended_in_openais_shape(make_client, tmp_path):
    keys = {name: Key(hash_key(name), None, None) for name in ("good", "late", "gone")}
    keys["late"] = dataclasses.replace(keys["late"], expires="2020-01-31T00:00:00+00:00")
    keys["gone"] = dataclasses.replace(keys["gone"], revoked="2020-01-31T00:00:00+00:00")
    write_keys(tmp_path / "keys.yaml", keys)

    async def asked() -> list:
        async with make_client(KeyFile(tmp_path / "keys.yaml")) as client:
            evil = {"origin": "https://evil.example", "authorization": "Bearer good"}
            answers = [await client.post("/v1/images/generations", json={}, headers=evil)]
            for name in keys:
                answers.append(await client.get("/v1/models", headers={"authorization": f"Bearer {name}"}))
            return answers

    other, good, late, gone = asyncio.run(asked())
    assert other.status_code == 403 and other.json()["error"]["code"] == "cross_site"
    assert good.status_code == 200 and (late.status_code, gone.status_code) == (401, 401)
    assert "expired on 2020-01-31; ask for a new one" in late.json()["error"]["message"]
    assert "was revoked on 2020-01-31" in gone.json()["error"]["message"]
