"""Small flows after the ideas of Prefect's public tutorials, and what each comes to.

Nothing here knows which of the two it runs on: the only difference is the name of the package that is imported. Run as
a program it prints what every case came to, as JSON; the tests compare that with the table, and with Prefect's own.
"""

import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tidemill import allow_failure, flow, get_run_logger, tags, task, unmapped
from tidemill.artifacts import create_markdown_artifact, create_table_artifact
from tidemill.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from tidemill.context import FlowRunContext, TaskRunContext
from tidemill.futures import as_completed, wait
from tidemill.runtime import flow_run, task_run
from tidemill.states import Cancelled, Completed, Crashed, Failed
from tidemill.task_runners import ThreadPoolTaskRunner
from tidemill.tasks import exponential_backoff
from tidemill.transactions import transaction

CASES: dict[str, Any] = {}


def case(fn):
    CASES[fn.__name__] = fn
    return fn


def plain(value):
    """What can be compared: exceptions by type and text, states by type and name."""
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if hasattr(value, "is_completed") and hasattr(value, "message"):
        return f"<{value.type.value} {value.name}>"
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(each) for each in value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return value


def told(call):
    """What a call gives: its value, or what it raises."""
    try:
        return plain(call())
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"


def seen(state):
    """A state's type, name and result."""
    try:
        result = plain(state._result()) if hasattr(state, "_result") else plain(state.result(raise_on_failure=False))
    except Exception as error:
        result = f"raised {type(error).__name__}"
    return [state.type.value, state.name, result]


# --- quickstart -----------------------------------------------------------------------------------------------------


@case
def hello_world():
    @flow(log_prints=True)
    def hello(name: str = "Marvin"):
        print(f"Hello, {name}!")
        return f"Hello, {name}!"

    return seen(hello(name="Arthur", return_state=True))


@case
def tasks_pass_data():
    @task
    def get_customer_ids():
        return [f"customer{n}" for n in range(3)]

    @task
    def process(customer_id):
        return f"Processed {customer_id}"

    @flow
    def main():
        ids = get_customer_ids()
        return process.map(ids).result()

    return seen(main(return_state=True))


@case
def a_flow_without_a_return():
    @flow
    def quiet():
        pass

    return seen(quiet(return_state=True))


@case
def an_exception_fails_the_flow():
    @flow
    def fails():
        raise ValueError("oh no!")

    return [seen(fails(return_state=True)), told(fails)]


@case
def an_unhandled_task_failure_fails_the_flow():
    @task
    def fails():
        raise ValueError("task says no")

    @flow
    def main():
        fails()

    return [seen(main(return_state=True)), told(main)]


@case
def a_caught_task_failure_does_not():
    @task
    def fails():
        raise ValueError("caught")

    @flow
    def main():
        try:
            fails()
        except ValueError:
            return "went on"

    return seen(main(return_state=True))


@case
def a_failed_task_nobody_asks_does_not_decide():
    @task
    def fails():
        raise ValueError("unasked")

    @flow
    def main():
        fails.submit().wait()
        return "done"

    return seen(main(return_state=True))


# --- final states ---------------------------------------------------------------------------------------------------


@case
def returned_states_decide():
    outcomes = []
    for made in (
        lambda: Completed(message="fine"),
        lambda: Failed(message="not fine"),
        lambda: Cancelled(message="called off"),
        lambda: Crashed(message="fell over"),
        lambda: Completed(message="x", name="Skipped"),
        lambda: Failed(data="only data"),
    ):

        @flow
        def returns():
            return made()  # noqa: B023

        state = returns(return_state=True)
        outcomes.append([state.type.value, state.name, state.message])
    return outcomes


@case
def a_returned_failure_is_raised():
    @flow
    def returns():
        return Failed(message="it said so")

    return told(returns)


@case
def a_returned_future_decides():
    @task
    def fails():
        raise ValueError("in the task")

    @task
    def works():
        return 1

    @flow
    def returns_failure():
        return fails.submit()

    @flow
    def returns_success():
        return works.submit()

    return [
        returns_failure(return_state=True).type.value,
        told(returns_failure),
        returns_success(return_state=True).type.value,
        told(returns_success),
    ]


@case
def returned_lists_are_aggregated():
    @task
    def fails():
        raise ValueError("one of them")

    @task
    def works():
        return 1

    @flow
    def mixed():
        return [works.submit(), fails.submit(), works.submit()]

    @flow
    def fine():
        return [works.submit(), works.submit()]

    @flow
    def with_data():
        return [fails.submit(), "data beside it"]

    @flow
    def in_a_tuple():
        return works.submit(), fails(return_state=True)

    states = [each(return_state=True) for each in (mixed, fine, with_data, in_a_tuple)]
    return [[state.type.value, state.message] for state in states] + [told(mixed), told(with_data)]


@case
def cancelled_beats_failed():
    @task
    def cancels():
        return Cancelled(message="no")

    @task
    def fails():
        raise ValueError("x")

    @flow
    def main():
        return [cancels.submit(), fails.submit()]

    state = main(return_state=True)
    return [state.type.value, state.message]


@case
def tasks_that_return_states():
    @task
    def gives_failure():
        return Failed(message="b")

    @task
    def gives_success():
        return Completed(message="a", data=3)

    @flow
    def direct():
        states = [gives_failure(return_state=True), gives_success(return_state=True)]
        return [[state.type.value, state.name, state.message] for state in states]

    @flow
    def by_future():
        return [told(gives_failure.submit().result), told(gives_success.submit().result)]

    @flow
    def by_call():
        return [plain(gives_failure())]

    return [told(direct), told(by_future), told(by_call)]


@case
def a_returned_state_of_a_task_decides():
    @task
    def fails():
        raise ValueError("kept as a state")

    @flow
    def main():
        return fails(return_state=True)

    return [main(return_state=True).type.value, told(main)]


@case
def none_in_a_list_is_data():
    @flow
    def main():
        return [None, 1]

    return seen(main(return_state=True))


# --- upstream -------------------------------------------------------------------------------------------------------


@case
def a_failed_upstream_leaves_dependants_not_ready():
    @task
    def fails():
        raise ValueError("upstream")

    @task
    def needs(x):
        return x

    @task
    def after():
        return "after"

    @flow
    def main():
        up = fails.submit()
        down = needs.submit(up)
        further = needs.submit(down)
        waiting = after.submit(wait_for=[up])
        for future in (down, further, waiting):
            future.wait()
        return [[future.state.type.value, future.state.name] for future in (up, down, further, waiting)]

    return main()


@case
def allow_failure_passes_the_exception_on():
    @task
    def fails():
        raise ValueError("passed on")

    @task
    def reads(x):
        return f"{type(x).__name__}: {x}"

    @flow
    def main():
        return reads(allow_failure(fails.submit()))

    @flow
    def waiting():
        return reads.submit("own", wait_for=[allow_failure(fails.submit())]).result()

    return [told(main), told(waiting)]


@case
def futures_stand_for_results_in_collections():
    @task
    def one():
        return 1

    @task
    def total(given):
        return given["a"] + sum(given["b"]) + given["c"][0]

    @flow
    def main():
        return total({"a": one.submit(), "b": [one.submit(), 10], "c": (one.submit(),)})

    return told(main)


@case
def states_stand_for_results():
    @task
    def one():
        return 1

    @task
    def double(x):
        return 2 * x

    @flow
    def main():
        return double(one(return_state=True))

    return told(main)


@case
def a_call_with_a_failed_input():
    @task
    def fails():
        raise ValueError("x")

    @task
    def needs(x):
        return x

    @flow
    def main():
        state = needs(fails(return_state=True), return_state=True)
        return [state.type.value, state.name]

    return told(main)


# --- retries --------------------------------------------------------------------------------------------------------


@case
def retries_until_it_works():
    calls = []

    @task(retries=2, retry_delay_seconds=0)
    def flaky():
        calls.append(task_run.run_count)
        if len(calls) < 3:
            raise ValueError("not yet")
        return len(calls)

    @flow
    def main():
        return flaky()

    return [told(main), calls]


@case
def retries_run_out():
    calls = []

    @task(retries=1, retry_delay_seconds=[0, 0])
    def never():
        calls.append(1)
        raise ValueError("never")

    @flow
    def main():
        never()

    return [told(main), len(calls)]


@case
def a_returned_failure_is_retried():
    calls = []

    @task(retries=2)
    def flaky():
        calls.append(1)
        return Failed(message="again") if len(calls) < 3 else "fine"

    @flow
    def main():
        return flaky()

    return [told(main), len(calls)]


@case
def a_condition_decides_about_retries():
    calls = []

    def only_value_errors(task, task_run, state):
        return isinstance(state._result() if hasattr(state, "_result") else state.data, ValueError)

    @task(retries=3, retry_condition_fn=only_value_errors)
    def fails(kind):
        calls.append(kind.__name__)
        raise kind("x")

    @flow
    def main():
        return [told(lambda: fails(ValueError)), told(lambda: fails(KeyError))]

    return [told(main), calls]


@case
def a_flow_is_retried():
    calls = []

    @flow(retries=2)
    def flaky():
        calls.append(flow_run.run_count)
        if len(calls) < 3:
            raise ValueError("not yet")
        return "fine"

    return [seen(flaky(return_state=True)), len(calls)]


@case
def backoff_doubles():
    return exponential_backoff(backoff_factor=10)(4)


# --- mapping --------------------------------------------------------------------------------------------------------


@case
def map_over_lists():
    @task
    def add(x, y):
        return x + y

    @flow
    def main():
        return [
            add.map([1, 2], [10, 20]).result(),
            add.map([1, 2], 5).result(),
            add.map(x=[1, 2], y=unmapped(7)).result(),
            add.map(range(3), y=1).result(),
        ]

    return told(main)


@case
def map_over_a_future():
    @task
    def numbers():
        return [1, 2, 3]

    @task
    def square(x):
        return x * x

    @flow
    def main():
        squares = square.map(numbers.submit())
        return square.map(squares).result()

    return told(main)


@case
def a_list_is_kept_whole_by_unmapped():
    @task
    def total(numbers, plus):
        return sum(numbers) + plus

    @flow
    def main():
        return total.map(unmapped([1, 2, 3]), [10, 20]).result()

    return told(main)


@case
def maps_that_make_no_sense():
    @task
    def add(x, y):
        return x + y

    @flow
    def main():
        found = []
        for arguments in (([1, 2], [1, 2, 3]), (1, 2)):
            try:
                add.map(*arguments)
            except Exception as error:
                found.append(type(error).__name__)
        return found

    return told(main)


@case
def a_map_with_failures():
    @task
    def odd(x):
        if x % 2 == 0:
            raise ValueError(f"{x} is even")
        return x

    @flow
    def main():
        states = odd.map([1, 2, 3], return_state=True)
        return [[state.type.value, plain(state.result(raise_on_failure=False))] for state in states]

    return told(main)


# --- concurrency ----------------------------------------------------------------------------------------------------


@case
def submitted_tasks_overlap():
    @task
    def slow(n):
        time.sleep(0.3)
        return n

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
    def main():
        began = time.monotonic()
        results = slow.map(range(4)).result()
        return [results, time.monotonic() - began < 1.0]

    return told(main)


@case
def waiting_for_several():
    @task
    def echo(x):
        return x

    @flow
    def main():
        futures = echo.map([1, 2, 3])
        done, not_done = wait(futures)
        return [len(done), len(not_done), sorted(future.result() for future in as_completed(futures))]

    return told(main)


@case
def callbacks_hear_of_the_end():
    heard = []

    @task
    def echo(x):
        return x

    @flow
    def main():
        future = echo.submit(5)
        future.add_done_callback(lambda done: heard.append(done.result()))
        future.wait()
        return future.result()

    return [told(main), heard]


@case
def nested_submissions():
    @task
    def inner(x):
        return x + 1

    @task
    def outer(x):
        return inner.submit(x).result() * 10

    @flow
    def main():
        return outer.map([1, 2, 3]).result()

    return told(main)


# --- async ----------------------------------------------------------------------------------------------------------


@case
def async_all_the_way():
    @task
    async def fetch(x):
        await asyncio.sleep(0)
        return x + 1

    @flow
    async def main(n: int):
        return await fetch(n), list(await asyncio.gather(*(fetch(i) for i in range(3))))

    return told(lambda: asyncio.run(main(1)))


@case
def async_flows_call_sync_tasks():
    @task
    def plain_task(x):
        return x * 2

    @task
    async def waits(x):
        return x + 1

    @flow
    async def main():
        return [plain_task(4), plain_task.submit(5).result(), waits.submit(1).result(), waits.map([1, 2]).result()]

    return told(lambda: asyncio.run(main()))


@case
def async_states():
    @flow
    async def fails():
        raise ValueError("async")

    async def main():
        state = await fails(return_state=True)
        return [state.type.value, state.name]

    return told(lambda: asyncio.run(main()))


# --- subflows -------------------------------------------------------------------------------------------------------


@case
def subflows():
    @flow
    def child(x):
        return x + 1

    @flow
    def failing_child():
        raise ValueError("child")

    @flow
    def parent():
        state = failing_child(return_state=True)
        return [child(1), state.type.value, told(failing_child)]

    return told(parent)


@case
def a_subflow_failure_fails_its_parent():
    @flow
    def child():
        raise ValueError("child")

    @flow
    def parent():
        child()

    return [seen(parent(return_state=True))]


@case
def subflows_take_futures():
    @task
    def one():
        return 1

    @flow
    def child(x):
        return x + 1

    @flow
    def parent():
        return child(one.submit())

    return told(parent)


# --- parameters -----------------------------------------------------------------------------------------------------


@case
def parameters_are_coerced():
    @flow
    def typed(n: int, x: float = 1.0, names: list[str] | None = None):
        return [n, x, names]

    return [
        told(lambda: typed("5")),
        told(lambda: typed(n=2, x="2.5", names=["a"])),
        typed(n="five", return_state=True).type.value,
    ]


@case
def bad_parameters_fail_the_run():
    @flow
    def typed(n: int):
        return n

    try:
        typed("not a number")
    except Exception as error:
        return type(error).__name__


@case
def unvalidated_parameters_are_as_given():
    @flow(validate_parameters=False)
    def typed(n: int):
        return n

    return told(lambda: typed("5"))


@case
def dataclasses_are_made_of_dicts():
    return told(lambda: takes_a_point({"x": "1", "y": 2}))


@dataclasses.dataclass
class Point:
    x: int
    y: int


@flow
def takes_a_point(point: Point):
    return [type(point).__name__, point.x + point.y]


@case
def calls_that_do_not_fit():
    @flow
    def one(a):
        return a

    @task
    def two(a):
        return a

    found = []
    for call in (one, lambda: one(1, 2), lambda: one(b=1), two):
        try:
            call()
        except TypeError:
            found.append("TypeError")
    return found


# --- names, runtime, tags -------------------------------------------------------------------------------------------


@case
def names_by_template():
    @task(task_run_name="load-{region}")
    def load(region):
        return task_run.name

    def named():
        return f"on-{flow_run.flow_name}"

    @flow(flow_run_name="report-{region}")
    def report(region: str):
        return [flow_run.name, load(region)]

    @flow(flow_run_name=named)
    def by_function():
        return flow_run.name

    return [told(lambda: report("fi")), told(by_function)]


@case
def runtime_tells_of_the_run():
    @task(tags=["t"])
    def inside(x):
        return [task_run.task_name, task_run.parameters, task_run.run_count, sorted(task_run.tags)]

    @flow
    def main(n: int = 2):
        return [flow_run.flow_name, flow_run.parameters, inside(n), bool(flow_run.id)]

    with tags("a"):
        return told(main)


@case
def contexts():
    @task
    def inside():
        return [TaskRunContext.get() is not None, FlowRunContext.get() is not None]

    @flow
    def main():
        return [TaskRunContext.get() is None, FlowRunContext.get() is not None, inside()]

    return told(main)


# --- caching --------------------------------------------------------------------------------------------------------


@case
def inputs_are_cached():
    calls = []

    @task(cache_policy=INPUTS, persist_result=True)
    def heavy(x, salt):
        calls.append(x)
        return x * 2

    @flow
    def main(salt):
        states = [heavy(x, salt, return_state=True) for x in (1, 1, 2)]
        return [[state.name, state.result()] for state in states]

    salt = str(time.time_ns())
    return [told(lambda: main(salt)), told(lambda: main(salt)), calls]


@case
def no_cache_runs_again():
    calls = []

    @task(cache_policy=NO_CACHE)
    def heavy(x):
        calls.append(x)

    @flow
    def main():
        heavy(1)
        heavy(1)

    return [told(main), len(calls)]


@case
def a_key_function():
    calls = []

    @task(cache_key_fn=lambda context, parameters: f"{parameters['x']}-{parameters['salt']}")
    def heavy(x, salt, noise):
        calls.append(noise)
        return x

    @flow
    def main(salt):
        return [heavy(1, salt, 1), heavy(1, salt, 2), heavy(2, salt, 3)]

    salt = str(time.time_ns())
    return [told(lambda: main(salt)), calls]


@case
def caches_expire_and_are_refreshed():
    calls = []

    def key(context, parameters):
        return parameters["salt"]

    @task(cache_key_fn=key, cache_expiration=timedelta(seconds=0.2))
    def heavy(salt):
        calls.append("expires")
        return len(calls)

    @task(cache_key_fn=lambda context, parameters: "r" + parameters["salt"], refresh_cache=True)
    def fresh(salt):
        calls.append("fresh")

    @flow
    def main(salt):
        heavy(salt)
        heavy(salt)
        time.sleep(0.4)
        heavy(salt)
        fresh(salt)
        fresh(salt)

    told(lambda: main(str(time.time_ns())))
    return calls


@case
def less_of_the_inputs_counts():
    calls = []

    @task(cache_policy=INPUTS - "debug" + TASK_SOURCE, persist_result=True)
    def heavy(x, salt, debug):
        calls.append(debug)
        return x

    @flow
    def main(salt):
        heavy(1, salt, debug=True)
        heavy(1, salt, debug=False)

    told(lambda: main(str(time.time_ns())))
    return calls


@case
def a_retried_flow_finds_cached_tasks():
    calls = []

    @task(persist_result=True)
    def heavy(x):
        calls.append(x)
        return x

    @flow(retries=1)
    def main():
        heavy(1)
        if flow_run.run_count < 2:
            raise ValueError("once more")
        return heavy(1)

    return [told(main), calls]


# --- hooks ----------------------------------------------------------------------------------------------------------


@case
def hooks_are_called():
    heard = []

    def hear(what):
        def hook(definition, run, state):
            heard.append([what, definition.name, state.name])

        return hook

    @task(on_completion=[hear("task done")], on_failure=[hear("task failed")], on_running=[hear("task begins")])
    def works(x):
        if not x:
            raise ValueError("no")

    @flow(on_completion=[hear("flow done")], on_failure=[hear("flow failed")], on_running=[hear("flow begins")])
    def main(x):
        works(x)

    told(lambda: main(1))
    told(lambda: main(0))
    return heard


@case
def hooks_as_decorators():
    heard = []

    @flow
    def main():
        return 1

    @main.on_completion
    def first(flow, flow_run, state):
        heard.append("first")
        raise ValueError("is told, and changes nothing")

    @main.on_completion
    async def second(flow, flow_run, state):
        heard.append("second")

    return [told(main), heard]


@case
def failure_hooks_come_after_the_last_retry():
    heard = []

    @task(retries=2, on_failure=[lambda task, run, state: heard.append(run.run_count)])
    def never():
        raise ValueError("never")

    @flow(on_failure=[lambda flow, run, state: heard.append("flow")])
    def main():
        never()

    told(main)
    return heard


# --- time -----------------------------------------------------------------------------------------------------------


@case
def tasks_time_out():
    @task(timeout_seconds=0.1)
    def slow():
        time.sleep(5)

    @task(timeout_seconds=0.1)
    async def slow_async():
        await asyncio.sleep(5)

    @flow
    def main():
        state = slow(return_state=True)
        return [state.type.value, state.name]

    @flow
    async def amain():
        state = await slow_async(return_state=True)
        return [state.type.value, state.name]

    return [told(main), told(lambda: asyncio.run(amain()))]


@case
def flows_time_out():
    @flow(timeout_seconds=0.1)
    def slow():
        time.sleep(5)

    @flow(timeout_seconds=0.1)
    async def slow_async():
        await asyncio.sleep(5)

    async def main():
        state = await slow_async(return_state=True)
        return [state.type.value, state.name]

    state = slow(return_state=True)
    return [[state.type.value, state.name], told(lambda: asyncio.run(main()))]


# --- transactions ---------------------------------------------------------------------------------------------------


@case
def a_failure_rolls_back():
    done = []

    @task
    def write(path):
        done.append("write")

    @write.on_rollback
    def remove(txn):
        done.append(f"remove {txn.get('path')}")

    @task
    def check():
        raise ValueError("bad data")

    @flow
    def main():
        with transaction() as txn:
            txn.set("path", "a.txt")
            write("a.txt")
            check()

    return [told(main), done]


@case
def a_success_commits():
    done = []

    @task
    def write():
        done.append("write")

    @write.on_commit
    def commit(txn):
        done.append("commit")

    @flow
    def main():
        with transaction():
            write()
            done.append("inside")
        done.append("after")

    return [told(main), done]


@case
def rollbacks_go_backwards():
    done = []

    @task
    def one():
        done.append("one")

    @one.on_rollback
    def undo_one(txn):
        done.append("undo one")

    @task
    def two():
        done.append("two")

    @two.on_rollback
    def undo_two(txn):
        done.append("undo two")

    @flow
    def main():
        with transaction():
            one()
            two()
            raise ValueError("after both")

    return [told(main), done]


# --- the rest -------------------------------------------------------------------------------------------------------


@case
def options_are_changed():
    @task(retries=1)
    def echo(x):
        return x

    @flow
    def main():
        other = echo.with_options(name="other", retries=3)
        return [other.name, other.retries, echo.name, echo.retries, other(5), echo.fn(6)]

    return [told(main), main.with_options(name="renamed").name, main.name]


class Worker:
    def __init__(self, factor):
        self.factor = factor

    @task
    def times(self, x):
        return self.factor * x

    @flow
    def work(self, x: int):
        return self.times(x)

    @flow
    @classmethod
    def made(cls):
        return cls.__name__

    @flow
    @staticmethod
    def shout(text: str):
        return text.upper()


@case
def methods():
    calls = [(Worker(3).work, 4), (Worker.made,), (Worker.shout, "a")]
    return [told(partial(method, *given)) for method, *given in calls]


@case
def tasks_outside_flows():
    @task
    def echo(x):
        return x

    @task
    def fails():
        raise ValueError("alone")

    return [told(lambda: echo(3)), told(fails), fails(return_state=True).type.value]


@case
def variadic_tasks():
    @task
    def total(*numbers, **named):
        return sum(numbers) + sum(named.values())

    @flow
    def main():
        return [total(1, 2, a=3), total.submit(4, b=5).result()]

    return told(main)


@case
def artifacts_and_logs():
    @task
    def report():
        get_run_logger().info("writing")
        create_markdown_artifact("# Report", key="report")
        create_table_artifact([{"a": 1}], key="table")

    @flow
    def main():
        report()
        return "kept"

    return told(main)


@case
def a_file_is_written():
    """The extract, transform, load of every tutorial."""

    @task(retries=3, retry_delay_seconds=0)
    def extract():
        return [{"id": n, "stars": n * 10} for n in range(3)]

    @task
    def transform(rows):
        return [row for row in rows if row["stars"] >= 10]

    @task
    def load(rows, folder):
        path = Path(folder) / "rows.json"
        path.write_text(json.dumps(rows))
        return len(json.loads(path.read_text()))

    @flow(log_prints=True)
    def etl(folder: str):
        return load(transform(extract()), folder)

    with tempfile.TemporaryDirectory() as folder:
        return told(lambda: etl(folder))


@case
def a_task_is_never_a_plain_exception():
    @task
    def exits():
        raise SystemExit(3)

    @flow
    def main():
        try:
            exits()
        except SystemExit as error:
            return f"exit {error.code}"

    return told(main)


def main() -> None:
    chosen = sys.argv[1:] or list(CASES)
    results = {}
    for name in chosen:
        try:
            results[name] = CASES[name]()
        except BaseException as error:
            results[name] = f"the case itself raised {type(error).__name__}: {error}"
    print("RESULTS " + json.dumps(results))


if __name__ == "__main__":
    main()
