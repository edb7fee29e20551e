"""Runs of deployments."""

from tidemill.sdk.deployments import DeploymentRun, arun_deployment, run_deployment

__all__ = [
    "DeploymentRun",
    "arun_deployment",
    "run_deployment",
]
