"""Pausing, resuming and waiting for flow runs."""

from tidemill.sdk.deployments import wait_for_flow_run
from tidemill.sdk.pauses import apause_flow_run, aresume_flow_run, pause_flow_run, resume_flow_run

__all__ = [
    "apause_flow_run",
    "aresume_flow_run",
    "pause_flow_run",
    "resume_flow_run",
    "wait_for_flow_run",
]
