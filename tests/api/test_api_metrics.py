"""``/metrics``: what Prometheus' own parsers read, and who may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from edges import Mill, opened
from fakes import FakeClock
from tidemill.api.metrics import render, text
from tidemill.core.histograms import Histogram
from tidemill.services.metrics import METRICS, Metric, Sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def a_value(metric: Metric) -> Any:
    if metric.kind == "histogram":
        histogram = Histogram((0.5, 2))
        for value in (0.1, 1, 99):
            histogram.observe(value)
        return histogram
    return (2, 3.5) if metric.kind == "summary" else 7


def samples() -> dict[str, list[Sample]]:
    """One sample of every metric, with labels that need escaping."""
    return {metric.name: [(tuple('a "b"\\\nc' for _ in metric.labels), a_value(metric))] for metric in METRICS}


def families(body: bytes, content_type: str) -> dict[str, Any]:
    read = openmetrics_parser if content_type.startswith("application/openmetrics-text") else parser
    return {family.name: family for family in read.text_string_to_metric_families(body.decode())}


@pytest.mark.parametrize("accept", ["", "text/plain", OPENMETRICS])
def test_the_official_parser_reads_every_metric_back(accept: str) -> None:
    body, content_type = render(samples(), accept)
    assert content_type.startswith("application/openmetrics-text" if accept == OPENMETRICS else "text/plain")
    found = families(body, content_type)
    for metric in METRICS:
        family = found[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.help
        values = {each.name.removeprefix(metric.name): each for each in family.samples if "le" not in each.labels}
        if metric.kind == "histogram":
            assert (values["_count"].value, values["_sum"].value) == (3, 100.1)
            buckets = {each.labels["le"]: each.value for each in family.samples if "le" in each.labels}
            assert buckets == {"0.5": 1, "2.0": 2, "+Inf": 3}
        elif metric.kind == "summary":
            assert (values["_count"].value, values["_sum"].value) == (2, 3.5)
        else:
            assert values[""].value == 7
            assert values[""].labels == dict.fromkeys(metric.labels, 'a "b"\\\nc')


def test_the_process_is_told_too() -> None:
    found = families(*render({metric.name: [] for metric in METRICS}, ""))
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6
    assert {"process_cpu_seconds", "process_open_fds"} <= found.keys()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    """https://prometheus.io/docs/practices/naming/: base units, and _total for what only grows."""
    assert metric.name.startswith("tidemill_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not metric.name.endswith(("_ms", "_us", "_kb", "_mb"))


async def test_the_text_is_made_outside_of_the_loop(tmp_path: Path, clock: FakeClock) -> None:
    async with opened(tmp_path, clock) as mill:
        assert isinstance(mill, Mill)
        body, content_type = await text(mill, "")
    assert b"tidemill_build_info" in body
    assert content_type.startswith("text/plain")
