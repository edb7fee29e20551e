"""``[retention]`` with other values for once, by the same rules as the file's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tidemill.config.faults import Wrong
from tidemill.config.keys import RETENTION
from tidemill.config.settings import RetentionSettings
from tidemill.errors import WrongUsageError

# What pruning goes by. Versions of artifacts go when a new one is stored.
PRUNED_BY = ("keep", "keep_runs_per_deployment", "keep_logs", "max_database_size")


def amended(settings: RetentionSettings, given: Mapping[str, Any]) -> RetentionSettings:
    """Return ``settings`` with ``given`` values, as TOML or JSON hold them: ``{"keep": "30d"}``.

    Raises WrongUsageError that names the key, what is wrong and what would be right.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in PRUNED_BY:
            raise WrongUsageError(f"{name}: there is no such rule of retention; there are {', '.join(PRUNED_BY)}")
        try:
            values[name] = RETENTION[name].kind.convert(value, Path())
        except Wrong as wrong:
            raise WrongUsageError(f"{name}: {wrong.problem}" + (f"; {wrong.remedy}" if wrong.remedy else "")) from None
    return replace(settings, **values)
