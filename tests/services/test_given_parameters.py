"""Parameters that somebody gives for a run are held against the flow's signature before the run is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.config import load
from tidemill.errors import TidemillError
from tidemill.services.fitness import ParameterCheck, entrypoint_fitness
from tidemill.services.given import merged

FLOWS = """
from __future__ import annotations
import dataclasses
from tidemill import flow

@dataclasses.dataclass
class Order:
    count: int

@flow
def report(n: int = 1, order: Order | None = None, days: list[int] = []): ...
"""
CONFIG = """
[daemon]
flows = "."
[deployments.report]
flow = "reports.py:report"
work_pool = "process"
parameters = { days = [1] }
overridable = ["n", "order", "days"]
"""


def test_a_value_that_no_conversion_takes_is_refused_when_the_run_is_made(tmp_path: Path) -> None:
    (tmp_path / "reports.py").write_text(FLOWS)
    file = tmp_path / "tidemill.toml"
    file.write_text(CONFIG)
    loaded = load(file, environ={})
    fitness = entrypoint_fitness(loaded, {})
    check, deployment = ParameterCheck({}, fitness.signatures), loaded.settings.deployments["report"]

    with pytest.raises(TidemillError) as refused:
        merged(deployment, {"n": "x", "days": ["mon"]}, check)
    remedy = "the flow's signature says so; give a value that fits it"
    assert str(refused.value) == (
        f'deployment report: days[0]: "mon" is not an integer; {remedy}; n: "x" is not an integer; {remedy}'
    )
    assert merged(deployment, {"n": "5", "order": {"count": "?"}}, check) == {
        "n": "5",
        "order": {"count": "?"},  # what a dataclass takes only the flow's own code knows
        "days": [1],
    }
    # As long as nothing is known of the flow, its run says what is wrong.
    assert merged(deployment, {"n": "x"}, ParameterCheck({}, {}))["n"] == "x"
