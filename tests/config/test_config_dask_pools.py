"""Dask pools in the file: what is taken, and what is wrong with what is not."""

from __future__ import annotations

import importlib.util
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import load
from tidemill.core.deployments import WorkPool
from tidemill.errors import ConfigError

HEAD = '[work_pools.cluster]\ntype = "dask"\n'
ADDRESS = 'address = "tcp://10.0.0.5:8786"\n'


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "tidemill.toml"
    path.write_text(text)
    return load(path, environ={"TZ": "UTC"})


def test_a_dask_pool_is_what_the_file_says(tmp_path: Path) -> None:
    text = HEAD + 'address = "tls://dask.example.org:8786"\nworkers = "big-one"\nresources = { GPU = 1 }\n'
    text += 'tls = { ca = "ca.pem", cert = "/etc/me.pem", key = "/etc/me.key" }\nlease = "1h"\ngrace = "5s"\n'
    assert read(tmp_path, text).settings.work_pools["cluster"] == WorkPool(
        name="cluster",
        type="dask",
        address="tls://dask.example.org:8786",
        workers=("big-one",),
        resources={"GPU": 1.0},
        tls={"ca": str(tmp_path / "ca.pem"), "cert": "/etc/me.pem", "key": "/etc/me.key"},
        lease=timedelta(hours=1),
        grace=timedelta(seconds=5),
    )


FAULTS = [
    (HEAD, "lacks address"),
    (HEAD + 'address = "10.0.0.5:8786"', '"10.0.0.5:8786" is no address of a Dask scheduler'),
    (HEAD + 'address = "tcp://10.0.0.5"', "is no address of a Dask scheduler"),
    (HEAD + "address = 8786", "is a whole number, not an address"),
    (HEAD + 'address = "tls://10.0.0.5:8786"', "tls:// in address and the table tls go together"),
    (HEAD + ADDRESS + 'tls = { ca = "a", cert = "b", key = "c" }', "tls:// in address and the table tls go together"),
    (HEAD + 'address = "tls://a:1"\ntls = { ca = "a" }', "lacks cert"),
    (HEAD + 'address = "tls://a:1"\ntls = { certs = "a" }', 'did you mean "cert"'),
    (HEAD + ADDRESS + "resources = { GPU = 0 }", "resources.GPU: 0 is no amount"),
    (HEAD + ADDRESS + "resources = { GPU = true }", "resources.GPU: true is no amount"),
    (HEAD + ADDRESS + "worker = []", 'did you mean "workers"'),
]


@pytest.mark.parametrize(("text", "says"), FAULTS, ids=[says for _, says in FAULTS])
def test_what_is_wrong_with_a_dask_pool_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert says in str(raised.value)
    assert len(raised.value.faults) == 1


def test_without_the_package_the_fault_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else found(name))
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, HEAD + ADDRESS)
    (fault,) = raised.value.faults
    assert (fault.key, fault.line) == ("work_pools.cluster.type", 2)
    assert fault.remedy == 'run: pip install "tidemill[dask]"'


def test_keys_of_other_pools_have_no_effect_and_are_told(tmp_path: Path) -> None:
    loaded = read(tmp_path, HEAD + ADDRESS + 'threads = 3\nmemory_limit = "1GiB"\n')
    assert [(fault.key, fault.problem) for fault in loaded.warnings] == [
        ("work_pools.cluster.threads", "has no effect in a dask pool"),
        ("work_pools.cluster.memory_limit", "has no effect in a dask pool"),
    ]
