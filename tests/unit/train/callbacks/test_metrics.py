"""`metrics.jsonl` after a crash."""

from pm.train.callbacks.metrics import MetricsFile, read_metrics


def test_a_metrics_line_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    MetricsFile(tmp_path).on_start(1, 6)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
