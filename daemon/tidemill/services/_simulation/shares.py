"""Shares of a simulation: which deployments can be simulated apart from others, and doing so in several processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import msgspec

from tidemill.config.settings import Settings
from tidemill.core.deployments import Deployment
from tidemill.core.independence import groups, shares
from tidemill.core.schedules import CompiledSchedule, fires

T = TypeVar("T")

SAMPLE = timedelta(days=1)  # whose fires tell how much there is to do
MOST_SAMPLED = 1500  # fires of one schedule
WORTH = 500  # fires in the sample from which on several processes are faster than one


def deal(
    settings: Settings, compiled: Mapping[str, Sequence[CompiledSchedule]], start: datetime, count: int
) -> list[list[str]]:
    """Return deployments in up to ``count`` shares that never meet but in their pools; one share: all of them."""
    everything = [list(settings.deployments)]
    # Automations look at all runs. And jitter of retries is drawn from one source, in the order in which they come.
    if count < 2 or settings.automations or any(_draws(each) for each in settings.deployments.values()):
        return everything
    weights = {
        name: sum(
            sum(1 for _ in fires(each, start, until=start + SAMPLE, limit=MOST_SAMPLED)) for each in compiled[name]
        )
        for name in settings.deployments
    }
    if sum(weights.values()) < WORTH:
        return everything

    def bounds(deployment: Deployment) -> Iterator[str]:
        queue = settings.work_queues.get(deployment.work_queue)
        if queue is not None and queue.concurrency_limit is not None:
            yield f"queue {queue.name}"
        yield from (f"tag {tag}" for tag in deployment.tags if tag in settings.tag_limits)

    return shares(groups(settings.deployments, bounds), weights, count)


def _fires_a_day(compiled: CompiledSchedule, start: datetime) -> int:
    return sum(1 for _ in fires(compiled, start, until=start + SAMPLE, limit=MOST_SAMPLED))


def _draws(deployment: Deployment) -> bool:
    return deployment.retry is not None and deployment.retry.jitter > 0


def side_by_side(jobs: Sequence[Callable[[], T]], kind: Any) -> list[T] | None:
    """Run the first job here and each other one in a child process; None: one of them could not be done.

    ``kind`` is the type of what they return, which goes through a pipe as msgpack.
    """
    if threading.active_count() > 1:  # a child of a process with threads may wait for ever for a lock that one held
        return None
    context = multiprocessing.get_context("fork")
    children = []
    for job in jobs[1:]:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_answer, args=(job, theirs), daemon=True)
        child.start()
        theirs.close()
        children.append((child, ours))
    found: list[T] = []
    try:
        found.append(jobs[0]())
        decoder = msgspec.msgpack.Decoder(kind)
        found += [decoder.decode(answers.recv_bytes()) for _, answers in children]
    except (EOFError, RuntimeError):
        return None
    finally:
        for child, answers in children:
            child.terminate()
            child.join()
            answers.close()
    return found


def _answer(job: Callable[[], Any], answers: Connection) -> None:
    try:
        answer = msgspec.msgpack.encode(job())
    except RuntimeError:  # it is done again, by others
        return
    answers.send_bytes(answer)
