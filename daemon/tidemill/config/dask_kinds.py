"""The values that only Dask pools have: the scheduler's address, what a run needs of a worker, certificates."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from tidemill.config import kinds
from tidemill.config.faults import Wrong, did_you_mean, show
from tidemill.config.kinds import Kind, of_type

_SCHEDULER = re.compile(r"(tcp|tls|ucx|ws|wss)://(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):\d{1,5}/?")
_CERTIFICATES = ("ca", "cert", "key")


def scheduler() -> Kind:
    write = 'write the address that "dask scheduler" prints: "tcp://10.0.0.5:8786"'

    def convert(value: Any, _: Path) -> str:
        found = of_type(value, str, "an address", write)
        if len(found) > 300 or not _SCHEDULER.fullmatch(found):
            raise Wrong(f"{show(found)} is no address of a Dask scheduler", write)
        return found.rstrip("/")

    return Kind("address", write, convert)


def resources() -> Kind:
    write = "write a table of numbers: { GPU = 1 }"

    def convert(value: Any, base: Path) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, item in of_type(value, dict, "a table", write).items():
            if isinstance(item, bool) or not isinstance(item, int | float) or not 0 < item < math.inf:
                raise Wrong(f"{show(item)} is no amount", write, (name,))
            found[name] = float(item)
        return found

    return Kind("table of numbers", write, convert)


def certificates() -> Kind:
    write = 'write paths: { ca = "/etc/dask/ca.pem", cert = "/etc/dask/me.pem", key = "/etc/dask/me.key" }'

    def convert(value: Any, base: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, item in of_type(value, dict, "a table", write).items():
            if name not in _CERTIFICATES:
                raise Wrong("is no key of this table", did_you_mean(name, _CERTIFICATES) or write, (name,))
            try:
                found[name] = kinds.path("/etc/dask/ca.pem").convert(item, base)
            except Wrong as wrong:
                raise Wrong(wrong.problem, wrong.remedy, (name, *wrong.at)) from None
        for name in _CERTIFICATES:
            if found and name not in found:
                raise Wrong(f"lacks {name}", write)
        return found

    return Kind("table of paths", write, convert)
