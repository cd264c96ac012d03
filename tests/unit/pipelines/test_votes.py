import sys

import pytest
import yaml

from pipelines import votes
from pipelines._command_line import rewrite
from pm.evaluate.votes import VotesConfig


@pytest.mark.parametrize(
    "typed, files",
    [
        (["a.json", "key=k.json", "b.json"], ["a.json", "b.json"]),
        (["it's ben (1).json", "x=1, y.json", "key=k.json"], ["it's ben (1).json", "x=1, y.json"]),
        (["key=k.json", "votes=[c.json,d.json]"], ["c.json", "d.json"]),
        (["key=k.json", "votes=folder"], ["folder"]),
    ],
)
def test_files_stand_alone_or_behind_their_setting(monkeypatch, typed, files):
    monkeypatch.setattr(sys, "argv", ["photomaker votes", *typed])
    monkeypatch.setattr(votes, "counted", lambda: None)
    votes.main()
    settings = dict(word.split("=", 1) for word in rewrite(sys.argv[1:], VotesConfig, {}))
    assert settings["key"].strip("'") == "k.json"
    assert yaml.safe_load(settings["votes"].replace("\\'", "''")) == files
