"""A map over many requests, held to the rate that the API allows."""

import httpx

from tidemill import flow, task, unmapped
from tidemill.artifacts import create_table_artifact
from tidemill.concurrency.sync import rate_limit
from tidemill.task_runners import ThreadPoolTaskRunner


@task(retries=2, retry_delay_seconds=1)
def fetch(number: int, url: str) -> dict:
    rate_limit("api")
    answer = httpx.get(url, timeout=30)
    answer.raise_for_status()
    return {"number": number, **answer.json()}


@flow(task_runner=ThreadPoolTaskRunner(max_workers=10), log_prints=True)
def collect(url: str, count: int = 100) -> int:
    rows = fetch.map(list(range(count)), unmapped(url)).result()
    create_table_artifact(key="activities", table=rows)
    print(f"{len(rows)} activities, {len({row['activity'] for row in rows})} different ones")
    return len(rows)
