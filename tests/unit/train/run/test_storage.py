"""Folders and URIs."""

from pm.train.run.storage import is_uri, join


def test_names_are_put_below_a_folder_or_a_uri():
    assert join("runs/", "a/b") == "runs/a/b" and not is_uri("runs")
    assert join("s3://bucket/x?region=eu", "a") == "s3://bucket/x/a?region=eu" and is_uri("s3://bucket/x")
