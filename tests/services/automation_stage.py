"""What tests of automations are made with: ``from automation_stage import config, ends``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from stage import DONE, Script, World, seconds

from tidemill.core.automations import Fire
from tidemill.core.events import ArtifactStored
from tidemill.core.notices import Notice, NoticeKind
from tidemill.core.ports import Job, Outcome
from tidemill.core.runs import Artifact, FlowRun
from tidemill.services.house import House
from tidemill.store import automations
from tidemill.store.artifacts import ARTIFACTS

JOBS = """
[notify]
default = "mailto:me@example.org"
[deployments.job]
command = "true"
interval = "10m"
[deployments.other]
command = "true"
[deployments.then]
command = "true"
"""
RUN_THEN = '{ run = "then" }'
TELL = '{ notify = "default" }'
SILENT = '{ deployment = "job", no = "Completed", within = "25m" }'


def config(when: str, then: str = RUN_THEN, more: str = "") -> str:
    return f"{JOBS}\n[automations.x]\nwhen = {when}\nthen = {then}\n{more}\n"


def ends(**outcomes: Sequence[Outcome] | Outcome) -> Script:
    """The runs of a deployment end so, one after another; the last outcome repeats. Others complete."""
    left = {name: list(each) if isinstance(each, list | tuple) else [each] for name, each in outcomes.items()}

    def script(job: Job) -> tuple[timedelta, Outcome]:
        of = left.get(job.deployment or "", [DONE])
        return seconds(1), of.pop(0) if of[1:] else of[0]

    return script


class Told:
    """Who was told what: stands in for the channels."""

    def __init__(self, house: House) -> None:
        self.notices: list[tuple[str, Notice]] = []
        house.notices.tell = self.tell  # type: ignore[method-assign]

    def tell(self, notice: Notice, *, channel: str = "default") -> None:
        self.notices.append((channel, notice))

    def subjects(self, kind: NoticeKind = NoticeKind.AUTOMATION) -> list[str]:
        return [notice.subject for _, notice in self.notices if notice.kind is kind]


async def fires(house: House, name: str = "x") -> list[Fire]:
    """What an automation did, oldest first."""
    found: list[Fire] = await house.store.read(partial(automations.fires, name=name))
    return found[::-1]


async def made(world: World, house: House, deployment: str = "then") -> list[FlowRun]:
    return [run for run in await world.runs(house, deployment) if run.created_by == "automation"]


async def keep(house: House, world: World, key: str, text: str, run: FlowRun | None = None) -> None:
    """Store an artifact as a run does; equal content makes no new version."""
    now = world.now
    artifact = Artifact(
        id=house.orchestrator.ids.new(now),
        key=key,
        version=0,
        type="json",
        text=text,
        run_id=None if run is None else run.id,
        deployment=None if run is None else run.deployment,
        created=now,
    )
    stored = await house.store.write(ARTIFACTS, artifact)
    if stored.id == artifact.id:
        house.bus.publish([ArtifactStored(stored)])
