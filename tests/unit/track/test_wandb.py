"""When Weights & Biases records online, and under which id a run resumes."""

from pm.track.wandb import ID_FILE, WandbChoice, _identity

WANDB = WandbChoice(name="wandb", mode="auto", project="p", entity=None, run_group=None, tags=())


def test_it_is_offline_without_a_key(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert WANDB.effective_mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password " + "0" * 40 + "\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert WANDB.effective_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WANDB.effective_mode() == "disabled"


def test_a_run_keeps_its_id(tmp_path):
    first = _identity(tmp_path)
    assert _identity(tmp_path) == first == (tmp_path / ID_FILE).read_text() and len(first) == 8
