"""Crontabs as TOML for the configuration: what cannot be carried over stays in it as a comment with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from tidemill.config.faults import Wrong
from tidemill.config.notify_kinds import recipients
from tidemill.core import zones
from tidemill.core.crontab_commands import Found, depends_on_test, look, name_of
from tidemill.core.crontabs import OWN_SETTINGS, CronLine, LeftOut, read
from tidemill.core.refusals import ScheduleError
from tidemill.durations import format_duration

ROOT = "root"
UMASK = "022"  # what cron's jobs make files with; the daemon's own is stricter
_HEAD = """\
# Made from {sources} by `tidemill import crontab`. Look it over, and let `tidemill check` and
# `tidemill simulate` look, too; docs/cron.md tells how to change over.
# {who}
# cron mails what a job prints. Here that is the run's log (`tidemill logs`), and people are told of runs that fail.
# cron leaves out what fell due while the machine was off. Here the latest is made up for; for cron's way, say so:
#   [daemon]
#   catch_up = "skip"
"""

_NOBODY = """\
# Who is told when a run fails; cron told the owner of the crontab:
# [notify]
# default = "mailto:root"
"""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One crontab: where it was found, whose it is, and whether its lines name users (/etc/crontab, /etc/cron.d)."""

    label: str
    text: str
    owner: str | None = None
    with_users: bool = False


class Job(msgspec.Struct, kw_only=True):
    """A line on its way to being a deployment."""

    source: Source
    line: CronLine
    found: Found
    name: str = ""
    tags: list[str] = msgspec.field(default_factory=list)

    @property
    def user(self) -> str | None:
        return self.line.user or self.source.owner


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """The TOML, the names of the deployments in it, and what was left out, each with its source's label."""

    toml: str
    deployments: tuple[str, ...]
    left: tuple[tuple[str, LeftOut], ...]


def convert(
    sources: Sequence[Source], *, runs_as: str | None, homes: Mapping[str, str], shadow: bool = False
) -> Imported:
    """Return crontabs as TOML for a daemon of user ``runs_as`` (None: of whoever they belong to).

    ``homes`` are users' home directories, as far as they are known.
    """
    jobs: list[Job] = []
    left: list[tuple[Source, LeftOut]] = []
    for source in sources:
        lines, unread = read(source.text, with_users=source.with_users)
        left += [(source, each) for each in unread]
        for line in lines:
            reason = _refusal(line, line.user or source.owner, runs_as)
            if reason is None:
                jobs.append(Job(source=source, line=line, found=look(line.command)))
            else:
                left.append((source, LeftOut(number=line.number, text=line.text, reason=reason)))
    _name(jobs)
    tag_limits = _share_locks(jobs)
    channels = _channels(jobs)
    parts = [_head(sources, runs_as)]
    if channels:
        parts.append("[notify]\n" + "".join(_pair(name, f"mailto:{to}") for to, name in channels.items()))
    elif jobs:
        parts.append(_NOBODY)
    if tag_limits:
        parts.append("[tag_limits]\n" + "".join(_pair(tag, 1) for tag in tag_limits))
    places = {id(source): number for number, source in enumerate(sources)}
    texts = {
        (places[id(job.source)], job.line.number): _deployment(job, channels, runs_as, homes, shadow=shadow)
        for job in jobs
    }
    texts.update({(places[id(source)], each.number): _comment(source, each) for source, each in left})
    parts += [texts[place] for place in sorted(texts)]
    return Imported(
        toml="\n".join(parts),
        deployments=tuple(job.name for job in jobs),
        left=tuple((source.label, each) for source, each in left),
    )


def _refusal(line: CronLine, user: str | None, runs_as: str | None) -> str | None:
    zone = line.settings.get("CRON_TZ")
    if zone:
        try:
            zones.zone(zone)
        except ScheduleError as error:
            return f"CRON_TZ = {error.problem}; {error.remedy}"
    if runs_as not in (None, ROOT, user) and user is not None:
        remedy = "--as root" if user == ROOT else f"--as root, or with --as {user}"
        return f"it runs as {user}, whom a daemon of {runs_as} cannot become; import it with {remedy}"
    return None


def _head(sources: Sequence[Source], runs_as: str | None) -> str:
    labels = ", ".join(_plain(source.label) for source in sources) if len(sources) < 4 else f"{len(sources)} crontabs"
    who = "All of it runs as the daemon's user: `tidemill systemd install --jobs USER` sets one up."
    if runs_as is not None:
        jobs = f"`tidemill systemd install --jobs {_plain(runs_as)}`"
        who = f"It is meant for a daemon that runs as {_plain(runs_as)}: {jobs} sets one up."
    return _HEAD.format(sources=labels, who=who)


def _name(jobs: Sequence[Job]) -> None:
    taken: set[str] = set()
    for job in jobs:
        base = name_of(job.found.command)
        name, number = base, 1
        while name.replace("_", "-") in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.replace("_", "-"))
        job.name = name


def _share_locks(jobs: Sequence[Job]) -> list[str]:
    """Make a tag of each lock that several lines take and wait for; return the tags.

    Where one of them does not wait, nothing here says the same: all of them keep their flock.
    """
    takers: dict[str, list[Job]] = {}
    for job in jobs:
        if job.found.lock is not None:
            takers.setdefault(job.found.lock, []).append(job)
    tags: list[str] = []
    for lock, sharing in takers.items():
        if len(sharing) == 1:
            continue
        if all(job.found.lock_waits for job in sharing):
            tag = f"lock-{name_of(lock).removesuffix('-lock')}"
            tag = tag if tag not in tags else f"{tag}-{len(tags)}"
            tags.append(tag)
            for job in sharing:
                job.tags.append(tag)
                job.found.lock = None
        else:
            for job in sharing:
                job.found = Found(
                    command=job.line.command,
                    remarks=[f"flock stays: other lines take {lock}, too, and not all of them wait for it"],
                )
    return tags


def _channels(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the name of the channel for each MAILTO; the most frequent one is the default."""
    wanted = Counter(to for job in jobs if (to := _mail_to(job)))
    names: dict[str, str] = {}
    for number, (to, _) in enumerate(wanted.most_common()):
        base = "default" if number == 0 else f"mail-{name_of(to.partition('@')[0])}"
        names[to] = base if base not in names.values() else f"{base}-{number}"
    return names


def _mail_to(job: Job) -> str | None:
    """Return whom MAILTO names; "": nobody; None: it is not set, or names nobody that can be written to."""
    written = job.line.settings.get("MAILTO")
    if written is None or not written.strip():
        return None if written is None else ""
    listed = [each.strip() for each in written.split(",") if each.strip()]
    try:
        return ",".join(recipients().convert(listed, Path()))
    except Wrong as wrong:
        remark = f"MAILTO={written}: {wrong.problem}"
        if remark not in job.found.remarks:
            job.found.remarks.append(remark)
        return None


def _deployment(
    job: Job, channels: Mapping[str, str], runs_as: str | None, homes: Mapping[str, str], *, shadow: bool
) -> str:
    line, found = job.line, job.found
    env = {name: value for name, value in line.settings.items() if name not in OWN_SETTINGS}
    cwd = env.get("HOME")
    become = job.user if runs_as == ROOT and job.user not in (None, ROOT) else None
    if become is not None:
        home = cwd or homes.get(become)
        env = {**({"HOME": home} if home else {}), "LOGNAME": become, "USER": become, **env}
        cwd = cwd or home
    text = "".join(f"# {_plain(each.lstrip('#').strip())}\n" for each in line.comments)
    text += f"# {_plain(job.source.label)}:{line.number}: {_plain(line.text)}\n"
    text += "".join(f"# {_plain(each)}\n" for each in _remarks(job))
    text += f"[deployments.{job.name}]\n{_command(job, become)}"
    if line.stdin is not None:
        text += _pair("stdin", line.stdin)
    text += _pair("cron", line.schedule)
    zone = line.settings.get("CRON_TZ")
    if zone and line.schedule != "@reboot":
        text += _pair("timezone", zone)
    jitter = (found.jitter or timedelta(0)) + _random_delay(line)
    if jitter:
        text += _pair("jitter", format_duration(jitter))
    if found.timeout is not None:
        text += _pair("timeout", format_duration(found.timeout))
    if found.lock is not None:
        text += _pair("concurrency_limit", 1)
        text += "" if found.lock_waits else _pair("collision_strategy", "cancel_new")
    if job.tags:
        text += _pair("tags", job.tags)
    mail_to = _mail_to(job)
    if mail_to == "":
        text += _pair("notify", False)
    elif mail_to is not None and channels[mail_to] != "default":
        text += _pair("notify", channels[mail_to])
    if env:
        text += _pair("env", env)
    if cwd:
        text += _pair("cwd", cwd)
    text += _pair("umask", UMASK)
    return text + (_pair("mode", "shadow") if shadow else "")


def _command(job: Job, become: str | None) -> str:
    shell = job.line.settings.get("SHELL") or "/bin/sh"
    argv = [shell, "-c", job.found.command]
    if become is not None:
        return _pair("argv", ["runuser", "-u", become, "--", *argv])
    # `command` ends at the first failure, cron's shell goes on: of a single command both say the same.
    if shell in ("/bin/sh", "sh") and not job.found.is_list:
        return _pair("command", job.found.command)
    return _pair("argv", argv)


def _remarks(job: Job) -> list[str]:
    remarks = list(job.found.remarks)
    if job.found.lock is not None:
        remarks.append(f"it takes the lock {job.found.lock} no more: keep flock where another program takes it, too")
    if job.found.uses_random and (job.line.settings.get("SHELL") or "/bin/sh") == "/bin/sh":
        remarks.append(
            "it slept for a part of $RANDOM, which Debian's /bin/sh does not know: jitter does what was meant"
        )
    if depends_on_test(job.found.command):
        remarks.append(
            "where its test says no it ends with 1, and the run has failed: end it with || true to ignore that"
        )
    if job.line.settings.get("CRON_TZ"):
        remarks.append("CRON_TZ is heeded as cronie does; Debian's own cron knows the machine's zone only")
    return remarks


def _random_delay(line: CronLine) -> timedelta:
    written = line.settings.get("RANDOM_DELAY", "")
    minutes = int(written) if written.isascii() and written.isdigit() and len(written) < 6 else 0
    return timedelta(minutes=minutes)


def _comment(source: Source, left: LeftOut) -> str:
    return f"# {_plain(source.label)}:{left.number}: not carried over: {_plain(left.reason)}\n#   {_plain(left.text)}\n"


def _pair(key: str, value: Any) -> str:
    return f"{key} = {_value(value)}\n"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + " }"
    return tomli_w.dumps({"x": value})[4:].strip()


def _plain(text: str) -> str:
    """Return text as it may stand in a comment."""
    blanks = " ".join(text.split())
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in blanks)
