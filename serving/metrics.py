"""What Prometheus sees. One table of names, one recorder for Ray and one for a single process."""

from collections import defaultdict
from typing import Any, Protocol

# name -> (kind, help, tags, histogram bounds)
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
METRICS: dict[str, tuple[str, str, tuple[str, ...], tuple[float, ...]]] = {
    "pm_requests_total": ("counter", "Requests answered", ("route", "status"), ()),
    "pm_rejects_total": ("counter", "Requests refused", ("reason",), ()),
    "pm_images_total": ("counter", "Images made", ("model",), ()),
    "pm_image_seconds": ("histogram", "From the request's arrival to an image", ("route",), _SECONDS),
    "pm_retries_total": ("counter", "Images begun again because their replica died", (), ()),
    "pm_in_flight_images": ("gauge", "Images accepted by an ingress and not yet answered", (), ()),
    "pm_queue_images": ("gauge", "Images waiting inside an engine", (), ()),
    "pm_batch_images": ("histogram", "Images in a step", (), (1, 2, 4, 8, 16, 32, 64)),
    "pm_step_seconds": ("histogram", "One denoising step of all images", (), _SECONDS),
    "pm_decode_seconds": ("histogram", "One call of the VAE for finished images", (), _SECONDS),
    "pm_adapter_bytes": ("gauge", "Matrices of adapters in an engine", (), ()),
    "pm_adapters_dropped_total": ("counter", "Adapters whose matrices were dropped to stay within the budget", (), ()),
    "pm_local_quotas_total": (
        "counter",
        "Calls decided by one ingress while the shared quotas were gone",
        (),
        (),
    ),
    "pm_cancelled_total": ("counter", "Images given up because their client left", (), ()),
    "pm_failed_total": ("counter", "Images that failed in the engine", ("kind",), ()),
    "pm_checked_total": (
        "counter",
        "Pictures and photos that a check refused, blurred or reported",
        ("where", "policy"),
        (),
    ),
    "pm_identity_cache_total": ("counter", "Look-ups of identity embeddings", ("result",), ()),
}


class Recorder(Protocol):
    """Where figures go."""

    def record(self, name: str, value: float = 1.0, **tags: str) -> None:
        """Add to a counter, set a gauge, or observe in a histogram, by the table above."""


class MemoryRecorder:
    """Sums of counters and histograms, last values of gauges: for one process without Ray."""

    def __init__(self) -> None:
        self.values: dict[tuple, float] = defaultdict(float)

    def record(self, name: str, value: float = 1.0, **tags: str) -> None:
        kind, _, known, _ = METRICS[name]
        key = (name, *(tags[tag] for tag in known))
        self.values[key] = value if kind == "gauge" else self.values[key] + value


class RayRecorder:
    """Ray's own metrics: every node shows them at its metrics port, with the replica as a tag."""

    def __init__(self) -> None:
        from ray.serve import metrics

        kinds: dict[str, Any] = {
            "counter": metrics.Counter,
            "gauge": metrics.Gauge,
            "histogram": metrics.Histogram,
        }
        self._metrics = {
            name: kinds[kind](
                name, description=text, tag_keys=tags, **({"boundaries": list(bounds)} if kind == "histogram" else {})
            )
            for name, (kind, text, tags, bounds) in METRICS.items()
        }

    def record(self, name: str, value: float = 1.0, **tags: str) -> None:
        metric = self._metrics[name]
        if METRICS[name][0] == "counter":
            metric.inc(value, tags=tags)
        elif METRICS[name][0] == "gauge":
            metric.set(value, tags=tags)
        else:
            metric.observe(value, tags=tags)
