"""What holds a run up now: each obstacle as a finding, the one that matters most first."""

from __future__ import annotations

from tidemill.core.admission import Limit
from tidemill.core.why import Finding, Pause, RunEvidence, Words, brief, listed, people, stamp

_KINDS = {"queue": "work_queue", "pool": "work_pool", "deployment": "deployment"}


def obstacles(evidence: RunEvidence, words: Words) -> list[Finding]:
    """Return what stands between a waiting run and its start; empty: nothing does."""
    live = evidence.live
    if live is None:
        return [_down(evidence, words)]
    found: list[Finding] = []
    if live.degraded is not None:
        sentence = f"the database cannot be written ({live.degraded}), and nothing starts that cannot be recorded"
        found.append(Finding(kind="database", sentence=sentence, remedy="tidemill status"))
    if live.held is not None:
        found.append(Finding(kind="clock", sentence=f"nothing becomes due: {live.held}", remedy="tidemill status"))
    if live.stopping:
        found.append(Finding(kind="stopping", sentence="the daemon stops: nothing starts before it is started again"))
    if live.drain is not None:
        found.append(
            Finding(
                kind="draining",
                sentence=f"the daemon drains since {words.at(live.drain.since)}{people(live.drain.by)}: "
                "nothing new starts",
                at=live.drain.since,
                facts={"since": stamp(live.drain.since), "by": live.drain.by},
                remedy="tidemill drain --undo",
            )
        )
    for limit in evidence.waiting.limits:
        found += [paused(pause, words) for pause in _pauses(evidence, limit)]
    if evidence.run.work_pool in live.unreachable:
        reason = live.unreachable[evidence.run.work_pool]
        found.append(Finding(kind="pool", sentence=f"work pool {evidence.run.work_pool}: {reason}"))
    for limit in evidence.waiting.limits:
        slots, used = live.slots.get(limit), live.used.get(limit, 0)
        if slots is not None and used >= slots:
            found.append(_full(evidence, limit, slots, used, words))
    return found


def _down(evidence: RunEvidence, words: Words) -> Finding:
    alive = evidence.past.last_alive
    seen = f", last alive at {words.at(alive)} ({words.far(alive)})" if alive is not None else ""
    sentence = f"the daemon is down{seen}: nothing starts"
    return Finding(
        kind="down", sentence=sentence, at=alive, facts={"last_alive": stamp(alive)}, remedy="tidemill start"
    )


def _pauses(evidence: RunEvidence, limit: Limit) -> list[Pause]:
    kind = _KINDS.get(limit.kind)
    # A paused deployment makes no runs; one that is there starts all the same.
    return [
        pause
        for pause in evidence.past.pauses
        if kind != "deployment" and (pause.kind, pause.name) == (kind, limit.name) and pause.covers(evidence.now)
    ]


def paused(pause: Pause, words: Words) -> Finding:
    """Return a pause that holds as a finding."""
    noun = pause.kind.replace("_", "-")
    thing = f"{pause.kind.replace('_', ' ')} {pause.name}"
    facts = {"kind": pause.kind, "name": pause.name, "since": stamp(pause.since), "by": pause.by}
    if pause.by is None:
        sentence = f"{thing} is paused by the configuration"
    else:
        since = f" since {words.at(pause.since)}" if pause.since is not None else ""
        sentence = f"{thing} is paused by hand{since}{people(pause.by)}"
    remedy = f"tidemill {noun} resume {pause.name}"
    return Finding(kind="paused", sentence=sentence, at=pause.since, facts=facts, remedy=remedy)


def _full(evidence: RunEvidence, limit: Limit, slots: int, used: int, words: Words) -> Finding:
    holders = evidence.waiting.holders.get(limit, ())
    who = f": {listed(holders, words)}" if holders else ""
    left = used - len(holders)
    if holders and left > 0 and len(holders) < 5:
        who += f"; {left} more slot{'' if left == 1 else 's'} held by code that was given up and has not stopped"
    sentence = f"{limit} lets {slots} run at a time, and {used} of {slots} slots are held{who}"
    facts = {
        "limit": f"{limit.kind} {limit.name}",
        "slots": slots,
        "used": used,
        "holders": [brief(run) for run in holders],
    }
    return Finding(kind="full", sentence=sentence, facts=facts)


def next_in_line(evidence: RunEvidence) -> Finding:
    """Return the finding for a run that nothing holds up."""
    facts = {"waited_s": (evidence.now - evidence.run.expected_start).total_seconds()}
    return Finding(kind="next", sentence="nothing holds it up, it is about to start", facts=facts)
