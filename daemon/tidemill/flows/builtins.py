"""The built-in flows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tidemill.core.ports import Threads
from tidemill.flows.http_hosts import Resolver, look_up
from tidemill.flows.http_request import HttpRequestFlow
from tidemill.flows.shell import ShellFlow
from tidemill.sdk.context import RunContext
from tidemill.sdk.findings import Finding

if TYPE_CHECKING:
    from tidemill.flows.http_client import Transport


class BuiltinFlow(Protocol):
    """A flow that is named in the configuration instead of being imported."""

    @property
    def parameters(self) -> type[msgspec.Struct]:
        """The parameters with their types and defaults."""
        ...

    def check(self, parameters: Mapping[str, Any]) -> list[Finding]:
        """Return every fault of ``parameters``; opens and resolves nothing."""
        ...

    async def run(self, parameters: Mapping[str, Any], context: RunContext) -> Any:
        """Do it and return a JSON result; raises :class:`~tidemill.sdk.failures.FlowFailed`."""
        ...

    async def aclose(self) -> None:
        """Give back what the flow holds between runs."""
        ...


def builtins(
    *,
    transport: Transport | None = None,
    resolver: Resolver = look_up,
    threads: Threads | None = None,
    environ: Mapping[str, str] | None = None,
    grace: timedelta = timedelta(seconds=30),
) -> dict[str, BuiltinFlow]:
    """Return the built-in flows by name, to be shared by all pools and closed by their owner.

    ``grace`` is what a runner grants code that was told to end: a shell command has half of it between SIGTERM and
    SIGKILL, so that its end is seen in time. ``environ`` is where commands' PATH, HOME and the like come from.
    """
    return {
        "http_request": HttpRequestFlow(transport=transport, resolver=resolver, threads=threads),
        "shell": ShellFlow(environ=environ, grace=grace / 2),
    }
