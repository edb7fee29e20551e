"""Flows of flows and tasks for the conformance suite: what the one engine does, wherever it runs."""

from __future__ import annotations

import asyncio
import time
from datetime import date, timedelta

from tidemill.core.deployments import SecretRef
from tidemill.core.reports import SecretQuestion
from tidemill.errors import TidemillError
from tidemill.runtime import flow_run
from tidemill.sdk import create_json_artifact, get_run_logger, run_context
from tidemill.sdk.blocks import Secret
from tidemill.sdk.caching import INPUTS
from tidemill.sdk.concurrency import aconcurrency, concurrency
from tidemill.sdk.flows import flow
from tidemill.sdk.states import Completed, Failed
from tidemill.sdk.tasks import task
from tidemill.sdk.variables import Variable


@task
def double(number):
    get_run_logger().info("doubling %s", number)
    return number * 2


@task
async def adouble(number):
    await asyncio.sleep(0)
    return number * 2


@task(retries=2)
def stumbles(tries=[]):  # noqa: B006 - it counts its calls
    tries.append(1)
    if len(tries) % 3:
        raise ValueError(f"try {len(tries) % 3}")
    return "in the end"


@task
def breaks():
    raise ValueError("broken")


@flow
def sync_tasks():
    return [double(1), double.submit(2).result(), sum(double.map([3, 4]).result())]


@flow
async def async_tasks():
    first, second = await asyncio.gather(adouble(1), adouble(2))
    return [first, second, double(3)]


@flow
def tries_again():
    return stumbles()


@flow(retries=4, retry_delay_seconds=7)
def advises():
    raise ValueError("not today")


@flow
def depends():
    downstream = double.submit(breaks.submit())
    downstream.wait()
    return downstream.state.name


@flow(name="inner")
def inner(number):
    create_json_artifact("inner", {"number": number})
    return double(number)


@flow(name="ainner")
async def ainner(number):
    return await adouble(number)


@flow
def sync_subflow():
    return inner(4)


@flow
async def async_subflow():
    return await ainner(4)


@flow
def breaks_inside():
    return inner("a") + 1


@task(cache_policy=INPUTS, persist_result=True)
def costly(number):
    get_run_logger().info("computed")
    return {"number": number}


@flow
def caches():
    return [costly(1), costly(1), costly(2)]


@flow(timeout_seconds=0.3)
def sync_out_of_time():
    time.sleep(600)


@flow(timeout_seconds=0.3)
async def async_out_of_time():
    await asyncio.Event().wait()


@flow
def returns_failed():
    return Failed(message="as I say")


@flow
def returns_named():
    return Completed(message="nothing to do", name="Skipped")


@flow
def typed(day: date, factor: float = 2):
    return [day.isoformat(), (day + timedelta(days=1)).isoformat(), factor]


def said(word):
    def hook(flow, flow_run, state):
        print(f"{word}: {state.name}")

    return hook


@flow(log_prints=True, on_completion=[said("completed")], on_failure=[said("failed")])
def hooked(how):
    if how == "fail":
        raise ValueError("as told")


@flow(log_prints=True, on_cancellation=[said("cancelled")])
async def ahooked():
    print("started")
    await asyncio.Event().wait()


@flow(log_prints=True)
def prints_in_a_task():
    @task
    def speaks():
        print("from the task")

    print("from the flow")
    speaks()


def asks_for_a_secret(name):
    return run_context().ask_now(SecretQuestion(ref=SecretRef(env=name)))


async def asks_for_a_secret_async(name):
    return await run_context().secret(SecretRef(env=name))


def hears_why_not(name):
    try:
        asks_for_a_secret(name)
    except TidemillError as error:
        return str(error)


@flow
def asks_for_much():
    token = Secret.load("token").get()
    before = Variable.get("region")
    Variable.set("region", "de", overwrite=True)
    with concurrency("database", occupy=2):
        return [token, before, Variable.get("region")]


@flow
async def asks_for_much_async():
    async with aconcurrency("database"):
        return [await adouble(2)]


@flow
def knows_who_it_is():
    return [flow_run.id, flow_run.name, flow_run.parameters]


@flow
def has_many_tasks(count):
    return len([double(number) for number in range(count)])


async def asks_at_once(count):
    context = run_context()
    answers = await asyncio.gather(*(context.secret(SecretRef(env="TOKEN")) for _ in range(count)))
    return len(set(answers))
