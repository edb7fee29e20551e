"""What goes wrong, in words a user can act on.

Every error that reaches a user is a :class:`TidemillError`: its text names the thing, the fact and the remedy,
and the command line prints that text without a traceback and exits with ``exit_code``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 3
EXIT_NOT_FOUND = 4
EXIT_CONFIG = 78  # sysexits.h EX_CONFIG; the unit does not restart on it


class TidemillError(Exception):
    """Base of all errors meant for a user. The text is the whole message."""

    exit_code: ClassVar[int] = EXIT_FAILED


class WrongUsageError(TidemillError):
    """What was asked for is not said as it should be. The text says what is wrong and how it is said."""

    exit_code = EXIT_USAGE


class NotFoundError(TidemillError):
    """Nothing has that name or id. The text lists near names where there are some."""

    exit_code = EXIT_NOT_FOUND


class DaemonUnreachableError(TidemillError):
    """No daemon answers. The text names each place that was looked at; start one, or name it with ``--api``."""

    exit_code = EXIT_NO_DAEMON


class StateDirectoryBusyError(TidemillError):
    """Another daemon holds the state directory. The text names its process; stop it or choose another directory."""

    exit_code = EXIT_CONFIG


class StateDirectoryError(TidemillError):
    """The state directory cannot be used: no directory, not writable, its path too long. Choose another one."""

    exit_code = EXIT_CONFIG


class AddressInUseError(TidemillError):
    """Something else listens on a configured address. Stop it, or change ``[api] listen``."""


class LogFileError(TidemillError):
    """The file that ``[log] file`` names cannot be written. Make its folder, or name another."""

    exit_code = EXIT_CONFIG


class DatabaseError(TidemillError):
    """The database cannot be used: corrupt, newer than this program, or not a tidemill database."""

    exit_code = EXIT_CONFIG


class StoreUnavailableError(TidemillError):
    """A write was refused for now (disk full, read-only, too much waiting). Nothing was changed; try again."""


class TransitionError(TidemillError):
    """A state change is not allowed from the state the run is in now."""


class EntrypointError(TidemillError):
    """A flow's code cannot be loaded or does not fit its parameters."""

    exit_code = EXIT_CONFIG


class Fault(NamedTuple):
    """One thing wrong in a configuration file, and where.

    ``line`` and ``column`` count from 1; 0 means the place is not known (an unreadable file, a missing table).
    """

    file: str
    line: int
    column: int
    key: str  # dotted, as a user would write it: deployments.daily.schedules[0].cron
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        where = f"{place} {self.key}" if self.key else place
        return f"{where}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")


class ConfigError(TidemillError):
    """The configuration has faults; all of them, by file and line."""

    exit_code = EXIT_CONFIG

    def __init__(self, faults: Sequence[Fault]) -> None:
        files = {fault.file: number for number, fault in reversed(list(enumerate(faults)))}  # as first named

        def place(fault: Fault) -> tuple[int, int, int]:
            return files[fault.file], fault.line or sys.maxsize, fault.column

        self.faults = tuple(sorted(faults, key=place))
        super().__init__("\n".join(str(fault) for fault in self.faults))
