"""``/metrics``: Prometheus' text, by Prometheus' own client.

The client is imported at the first scrape, in a thread, and the text is made in one: the loop waits for neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tidemill.api.ports import Control
from tidemill.core.histograms import Histogram
from tidemill.services.metrics import METRICS, Metric, Sample


async def text(control: Control, accept: str) -> tuple[bytes, str]:
    """Return the metrics and their content type, in the newest form that ``accept`` (the header) takes."""
    samples = await control.metrics.collect()
    return await asyncio.to_thread(render, samples, accept)


def render(samples: Mapping[str, Sequence[Sample]], accept: str) -> tuple[bytes, str]:
    """Return the exposition of ``samples`` and of this process, and its content type."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(samples))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector:
    """What the registry asks: a snapshot that was taken before."""

    def __init__(self, samples: Mapping[str, Sequence[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Any]:
        for metric in METRICS:
            yield _family(metric, self._samples[metric.name])


def _family(metric: Metric, samples: Iterable[Sample]) -> Any:
    from prometheus_client import metrics_core

    kinds = {
        "gauge": metrics_core.GaugeMetricFamily,
        "counter": metrics_core.CounterMetricFamily,
        "histogram": metrics_core.HistogramMetricFamily,
        "summary": metrics_core.SummaryMetricFamily,
    }
    family = kinds[metric.kind](metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        if isinstance(value, Histogram):
            buckets = [("+Inf" if bound == float("inf") else str(float(bound)), n) for bound, n in value.up_to()]
            family.add_metric(labels, buckets=buckets, sum_value=value.sum)
        elif isinstance(value, tuple):
            family.add_metric(labels, count_value=value[0], sum_value=value[1])
        else:
            family.add_metric(labels, value)
    return family
