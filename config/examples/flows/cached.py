"""Retries and caching: the second attempt takes up what the first one finished."""

from datetime import timedelta
from pathlib import Path

from tidemill import flow, task
from tidemill.cache_policies import INPUTS


@task(cache_policy=INPUTS, cache_expiration=timedelta(days=1), log_prints=True)
def dear(day: str) -> int:
    print("computing")
    return sum(map(ord, day))


@task
def deliver(value: int, broken: str) -> str:
    # Stands for a service that is away for a while: it works once the file is gone.
    if broken and Path(broken).exists():
        Path(broken).unlink()
        raise ConnectionError("the service is away")
    return f"delivered {value}"


@flow
def report(day: str, broken: str = "") -> str:
    return deliver(dear(day), broken)
