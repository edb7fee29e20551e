"""What to do when bored: an API request, printed, kept as an artifact."""

import httpx

from tidemill import flow, task
from tidemill.artifacts import create_json_artifact


@task(retries=3, retry_delay_seconds=[10, 60, 300])
def fetch(url: str) -> dict:
    answer = httpx.get(url, timeout=30, follow_redirects=True)
    answer.raise_for_status()
    return answer.json()


@flow(log_prints=True)
def bored(url: str) -> str:
    activity = fetch(url)
    print(activity)
    create_json_artifact(key="bored", data=activity, description="What to do when bored")
    return activity["activity"]
