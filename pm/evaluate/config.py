"""Settings of an evaluation (`conf/evaluate.yaml`)."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from pm.evaluate.columns import check_columns
from pm.evaluate.metrics.base import MetricChoice
from pm.evaluate.suites.base import ProtocolConfig, SuiteChoice
from pm.methods.base import MethodChoice
from pm.model.config import BaseConfig
from pm.sample.config import SamplerConfig
from pm.tasks import WorkersConfig
from pm.track.base import TrackerChoice


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation run."""

    suite: SuiteChoice
    methods: tuple[MethodChoice, ...]  # a row each, for every number of references
    adapters: tuple[str, ...]  # rows of the method photomaker: files, or folders searched for adapter.safetensors
    modules: tuple[str, ...]  # with parts of your own that an adapter names
    base: BaseConfig
    protocol: ProtocolConfig
    metrics: Annotated[tuple[MetricChoice, ...], MinLen(1)]  # a column each, in this order
    sampler: SamplerConfig
    output: str
    report_only: bool  # make no picture: report what is there, also while another process makes the rest
    compare: tuple[str, ...]  # reports, or the folders they are in: one table of all, and nothing else
    workers: WorkersConfig
    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    grid_identities: Annotated[int, Ge(1)]  # rows of the picture
    blind_pairs: Annotated[int, Ge(0)]  # on the page for a user study; 0: no page
    tracker: TrackerChoice

    def __post_init__(self) -> None:
        check_columns(self.metrics)
