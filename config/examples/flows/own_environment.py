"""Says which Python it runs in."""

import sys

from tidemill import flow


@flow(log_prints=True)
def where() -> str:
    print(f"running in {sys.prefix}")
    return sys.prefix
