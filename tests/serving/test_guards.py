"""Keys, quotas and the identity cache."""

import asyncio
import dataclasses
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from pm.errors import ConfigError
from pm.sample.presets import preset
from serving.config import HttpConfig, load
from serving.engine.cache import TenantCache
from serving.http import keys as keys_module
from serving.http.keys import Key, KeyFile, hash_key, read_keys, write_keys
from serving.http.quota import LocalQuotas
from serving.http.shared_quota import SharedQuotas
from serving.metrics import MemoryRecorder
from serving.sampling import check_loras


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_made_found_and_removed(tmp_path, capsys):
    file = tmp_path / "keys.yaml"
    keys_module.main(["add", "alice", "--file", str(file), "--images-per-minute", "6"])
    secret = capsys.readouterr().out.strip()
    assert secret not in file.read_text() and stat.S_IMODE(file.stat().st_mode) == 0o600
    known = KeyFile(file)
    assert known.find(secret) == "alice" and known.keys["alice"].images_per_minute == 6
    assert known.find(secret + "x") is None and known.find("") is None and known.find("ключ") is None
    keys_module.main(["remove", "alice", "--file", str(file)])
    known.refresh()
    assert known.find(secret) is None


def test_the_same_name_is_not_given_twice(tmp_path):
    for _ in range(2):
        last = subprocess.run(
            [sys.executable, "-m", "serving.http.keys", "add", "bob", "--file", str(tmp_path / "keys.yaml")],
            capture_output=True,
            text=True,
        )
    assert last.returncode == 1 and last.stderr.startswith("error: ") and "already" in last.stderr
    assert "Traceback" not in last.stderr


@pytest.mark.parametrize("content", ["- a", "alice: {sha256: abc}", "{", "alice: 3", "alice: {key: plain}"])
def test_a_wrong_key_file_is_refused_and_never_half_used(tmp_path, content):
    file = tmp_path / "keys.yaml"
    write_keys(file, {"alice": Key(hash_key("secret"), None, None)})
    known = KeyFile(file)
    file.write_text(content)
    with pytest.raises(ConfigError):
        known.refresh()
    assert known.find("secret") == "alice"
    with pytest.raises(ConfigError):
        read_keys(file)


@pytest.mark.parametrize("host, open_", [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True), ("10.0.0.3", True)])
def test_other_machines_need_keys(host, open_):
    config = load([f"http.host='{host}'"])
    if open_:
        with pytest.raises(ConfigError, match="keys.anonymous"):
            config.check_exposure()
        load([f"http.host='{host}'", "keys.anonymous=true"]).check_exposure()
    else:
        config.check_exposure()
    assert HttpConfig("localhost", 1, 1, ()).loopback


def test_rate_refills_and_says_when():
    clock = Clock()
    quotas, key = LocalQuotas(60, 2, clock), Key("", 6, None)

    async def go():
        assert await quotas.acquire("a", key, "1", 4) is None
        assert await quotas.acquire("a", key, "2", 4) == ("key_rate", pytest.approx(20))
        assert await quotas.acquire("b", key, "3", 4) is None
        clock.now += 20
        assert await quotas.acquire("a", key, "4", 4) is None
        clock.now += 1e6
        assert await quotas.acquire("a", key, "5", 6) is None
        assert (await quotas.acquire("a", key, "6", 1))[0] == "key_rate"

    asyncio.run(go())


def test_concurrency_is_given_back_or_runs_out():
    clock = Clock()
    quotas, key = LocalQuotas(60, 2, clock), Key("", None, 3)

    async def go():
        assert await quotas.acquire("a", key, "1", 2) is None
        assert await quotas.acquire("a", key, "2", 2) == ("key_concurrency", 2)
        await quotas.release("a", "1")
        await quotas.release("a", "unknown")
        await quotas.release("nobody", "1")
        assert await quotas.acquire("a", key, "3", 3) is None
        clock.now += 61  # the ingress that held it has died
        assert await quotas.acquire("a", key, "4", 3) is None

    asyncio.run(go())


def test_cache_is_bounded_for_each_tenant_and_in_time():
    clock = Clock()
    cache = TenantCache(2, 2, 10, clock)
    for key in "abc":
        cache.put("one", key, key)
    assert [cache.get("one", key) for key in "abc"] == [None, "b", "c"]
    assert cache.get("two", "b") is None
    cache.put("two", "b", "mine")
    assert (cache.get("one", "b"), cache.get("two", "b")) == ("b", "mine")
    cache.get("two", "b")
    cache.put("three", "x", 1)
    assert cache.get("one", "b") is None and cache.get("two", "b") == "mine" and len(cache) == 2
    clock.now += 9
    cache.put("three", "y", 1)
    clock.now += 2
    assert cache.get("three", "x") is None and cache.get("three", "y") == 1
    cache.expire()
    assert len(cache) == 1
    nothing = TenantCache(0, 2, 10, clock)
    nothing.put("one", "a", 1)
    assert nothing.get("one", "a") is None


def test_a_sampler_without_its_lora_is_found_before_anything_starts(config, tmp_path):
    with pytest.raises(ConfigError, match="the sampler is for the LoRA toon_lcm: put toon_lcm.safetensors into"):
        check_loras(dataclasses.replace(config, sampler=preset("toon_lcm")))
    (tmp_path / "toon_lcm.safetensors").touch()
    check_loras(dataclasses.replace(config, sampler=preset("toon_lcm"), loras=str(tmp_path)))


def test_a_key_ends_by_itself_and_can_be_revoked_while_the_file_is_in_use(tmp_path, capsys):
    file = tmp_path / "keys.yaml"
    secrets = {}
    for name, more in (("alice", ["--expires", "90d"]), ("bob", ["--expires", "2999-01-31"]), ("carl", [])):
        keys_module.main(["add", name, "--file", str(file), *more])
        secrets[name] = capsys.readouterr().out.strip()
    known, now = KeyFile(file), datetime.now(UTC)
    assert all(known.keys[known.find(secrets[name])].problem(now) is None for name in secrets)
    assert known.keys["bob"].expires == "2999-01-31T23:59:59+00:00"
    assert known.keys["alice"].problem(now + timedelta(days=91)).startswith("expired on ")
    keys_module.main(["revoke", "carl", "--file", str(file)])
    known.refresh()  # as every request does
    assert known.keys[known.find(secrets["carl"])].problem(now) == f"was revoked on {now:%Y-%m-%d}"
    keys_module.main(["list", "--file", str(file)])
    assert "carl: images_per_minute=None concurrent_images=None was revoked" in capsys.readouterr().out
    for wrong in ("soon", "2020-01-01", "d", "-3d", "1e99d"):
        with pytest.raises(SystemExit):
            keys_module.main(["add", "dora", "--file", str(file), "--expires", wrong])
    assert "Traceback" not in capsys.readouterr().err and "dora" not in read_keys(file)
    file.write_text(file.read_text().replace("2999-01-31T23:59:59+00:00", "2999-01-31T23:59:59"))  # in which zone?
    with pytest.raises(ConfigError):
        read_keys(file)


class Broken:
    """The one place for quotas, while it is gone."""

    down = True

    def __init__(self):
        self.quotas = LocalQuotas(60, 2)

    async def acquire(self, *args):
        if self.down:
            raise ConnectionError("gone")
        return await self.quotas.acquire(*args)

    async def release(self, *args):
        if self.down:
            await asyncio.sleep(60)
        await self.quotas.release(*args)


def test_rates_hold_over_replicas_also_while_the_place_that_counts_is_gone(caplog):
    key, recorder = Key("", 8, 4), MemoryRecorder()
    place = Broken()
    replicas = [SharedQuotas(place, 4, LocalQuotas(60, 2), recorder, timeout_s=0.05) for _ in range(4)]

    async def given(turn: str) -> int:
        leases = [(each, f"{turn}{i}{number}") for i in range(6) for number, each in enumerate(replicas)]
        got = [(each, lease) for each, lease in leases if await each.acquire("a", key, lease, 1) is None]
        for each, lease in got:
            await each.release("a", lease)
        return len(got)

    assert asyncio.run(given("gone")) == 4  # one place for each; what is given back is used again
    assert sum("quotas do not answer" in line for line in caplog.messages) == 4
    assert recorder.values[("pm_local_quotas_total",)] == 24
    place.down = False
    assert asyncio.run(given("there")) == 4
    assert asyncio.run(given("again")) == 4  # 8 a minute
    assert asyncio.run(given("late")) == 0
