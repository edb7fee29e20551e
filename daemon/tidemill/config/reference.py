"""The reference of the file: ``docs/configuration.md``, made from the tables that the reader of the file goes by.

``make docs`` writes the page, ``python -m tidemill.config.reference`` prints it, and a test holds that it is no other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tidemill.config import keys
from tidemill.config.automation_keys import ACTIONS, AUTOMATION, CONDITIONS, THEN, WHEN
from tidemill.config.block_keys import BLOCKS
from tidemill.config.keys import Key, Keys
from tidemill.config.notify_keys import CHANNEL, NOTIFY
from tidemill.config.pool_keys import POOLS
from tidemill.core.builtins import SHORT_FORMS

_HEAD = """\
# Configuration

Every table and every key of the file. This page is written by `make docs` from the tables that the daemon reads the
file by; [config/tidemill.toml](../config/tidemill.toml) shows the same keys in place. `tidemill check` tells every
fault of a file at once, with file, line and column.

| what | how it is written |
|---|---|
| duration | `"90s"`, `"1h30m"`, `"2d"` or `"250ms"`; a bare number means seconds; where it says so, `"forever"` |
| size | `"512MiB"` or `"2GiB"`; a bare number means bytes; where it says so, `"unlimited"` |
| name | small letters, digits and `_` `.` `-`, 64 at most, a letter or digit first; `_` and `-` count as the same |
| path, folder | absolute, or beside the file that names it |
| time zone | an IANA name: `"Europe/Helsinki"` |
| secret's reference | `{ env = "NAME" }`, `{ file = "/path" }` or, under systemd, `{ credential = "name" }`. \
Of a file one newline at its end is left out, and nothing else |

A key without a default is absent unless it is written; its column then shows an example in brackets. An unknown key is
a fault, told with the nearest known one.
"""


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


class Section(NamedTuple):
    """A table of the file: its header, a sentence or two, and its keys."""

    header: str
    words: str
    keys: Keys


def _several(kind: str, words: str, tables: Mapping[str, Keys]) -> list[Section]:
    return [
        Section(f'[{kind}.NAME] with type = "{name}"', words if number == 0 else "", table)
        for number, (name, table) in enumerate(tables.items())
    ]


SECTIONS: Sequence[Section] = (
    Section("[daemon]", "The daemon itself, and what holds where a deployment is silent.", keys.DAEMON),
    Section("[api]", "The HTTP API. The command line has a socket of its own, whatever stands here.", keys.API),
    Section(
        "[retention]",
        "How much history is kept. Of every deployment the newest finished run stays, and of every key the latest "
        "artifact. `tidemill db prune --dry-run` shows what these rules would take away now.",
        keys.RETENTION,
    ),
    Section("[log]", "What the daemon writes to its log.", keys.LOG),
    Section(
        "[deployments.NAME]",
        f"What runs. Instead of `flow`, one of {_words(SHORT_FORMS)} names a [built-in flow](built-in-flows.md), whose "
        "parameters may then stand in this table. So may one schedule, by its own keys; several are a list of tables, "
        "below.",
        keys.DEPLOYMENT,
    ),
    Section(
        "[[deployments.NAME.schedules]]",
        f"When it runs: exactly one of {_words(keys.RULES)} in each. [Time](time.md) tells the rules.",
        keys.SCHEDULE,
    ),
    Section(
        "[work_queues.NAME]", "A queue is made when a deployment names it; a table says more of it.", keys.WORK_QUEUE
    ),
    *_several(
        "work_pools",
        "Where runs execute. `default` (inline) and `process` are there without a table.",
        {str(kind): table for kind, table in POOLS.items()},
    ),
    Section(
        "[concurrency_limits.NAME]",
        "What flows and tasks bound among themselves, by `concurrency(...)` and `rate_limit(...)`.",
        keys.CONCURRENCY_LIMIT,
    ),
    Section(
        "[notify]",
        "Who is told when something goes wrong, and when it is well again: [Be told](notify.md). A channel is one "
        "text, as here, or a table of its own, as below. The one called `default` hears of every deployment that names "
        "no other.",
        {"NAME": CHANNEL},
    ),
    *_several("notify", "A channel with more to say.", {str(kind): table for kind, table in NOTIFY.items()}),
    *_several("blocks", "What flows ask for by name.", {str(kind): table for kind, table in BLOCKS.items()}),
    Section(
        "[automations.NAME]",
        "When something happens, or does not, then something is done. [Automations](automations.md) tells how.",
        AUTOMATION,
    ),
    Section(
        "when, of an automation",
        f"The condition: exactly one of {_words(CONDITIONS)}, and what goes with it.",
        WHEN,
    ),
    Section(
        "then, of an automation",
        f"One action, or a list of them. Each is exactly one of {_words(ACTIONS)}, and what goes with it.",
        THEN,
    ),
    Section("[variables]", "Values that flows read by name.", {"NAME": keys.VARIABLE}),
    Section("[tag_limits]", "Bounds for the runs that share a tag.", {"TAG": keys.TAG_LIMIT}),
)


def page() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *(line for section in SECTIONS for line in _lines(section))])


def _lines(section: Section) -> Iterator[str]:
    yield f"## `{section.header}`\n"
    if section.words:
        yield f"{section.words}\n"
    yield "| key | value | default | unit | meaning |\n|---|---|---|---|---|"
    for key in section.keys.values():
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(key))} |"
    yield ""


def _cells(key: Key) -> tuple[str, ...]:
    name = f"`{key.name}`" + (" (required)" if key.required else "")
    example = f"(`{key.example}`)" if key.example else ""
    shown = example if key.default is None else f"`{key.default}`"
    return name, _value(key), shown, key.unit if key.unit != key.kind.name else "", key.help


def _value(key: Key) -> str:
    """A range or a choice tells more than the sort's name; of the other sorts the head of the page tells."""
    name, write = key.kind.name, key.kind.write.removeprefix("write ")
    if name in ("whole number", "number"):
        return write.removeprefix("a ")
    if " | " in name:
        return ", ".join(f'`"{word}"`' for word in name.split(" | "))
    return name


if __name__ == "__main__":
    sys.stdout.write(page())
