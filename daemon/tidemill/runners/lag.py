"""The lag monitor: whether code of inline runs holds everything else up, which run it is, and at which line.

Inline code shares the daemon's event loop and its interpreter lock, and can hold them up in three ways. It *blocks* the
loop: a step that does not come to its next ``await``. It *hogs* the interpreter: a thread that computes, so that every
hand-over to another thread takes the switch interval. Or it *holds* the interpreter: a call into C that does not give
the lock up, during which nothing at all runs, this monitor's thread included; that is told as soon as it ends.

A thread looks four times a second while code runs inline, and asks the loop for an answer where it does not just wait
for something to do; it sleeps while nothing runs inline, and writes nothing while all is well. Nothing is recorded
beforehand: whose code it is, is read off the stack when it matters.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from tidemill.clock import Clock
from tidemill.runners.stacks import WAITING, place, run_of, step_of
from tidemill.sdk.context import FLOW

PERIOD_S = 0.25  # between two looks
PATIENCE_S = 0.5  # how long code may hold everything up before it is told: found out within PERIOD_S more
PROBE_S = 0.001  # a nap, to see how long the interpreter lock takes to come back
PROBES = 3  # that agree: one may be slow or fast by chance
SHOWN = 3  # threads told as hogs at a time
LAST_WORDS_S = 15.0  # the interpreter held for about so long: every thread's stack is written to stderr

_REMEDY = 'code that computes or waits without "await" belongs in a process pool'
_TOLD = {
    "blocks": "blocks the event loop",
    "hogs": "hogs the interpreter lock",
    "holds": "held the interpreter lock, so that nothing else ran",
}

logger = logging.getLogger("tidemill.lag")


class Episode:
    """One time that some code held others up. Instants are monotonic seconds."""

    __slots__ = ("context", "file", "kind", "line", "place", "seen", "since", "times", "who")

    def __init__(self, kind: str, since: float, frame: FrameType | None, thread: str) -> None:
        self.kind = kind  # blocks, hogs, holds
        self.since = since
        self.seen = since  # the last time it was found to go on
        self.times = 1  # it was found
        self.context = run_of(frame)
        if self.context is not None:
            job = self.context.job
            self.who = f"{job.deployment or job.flow.name}: {job.run_name}"
        else:
            self.who = f"code of no known run ({thread})"
        self.place, self.file, self.line = place(frame, self.context)

    @property
    def told(self) -> str:
        return f"{self.who} {_TOLD[self.kind]}"

    @property
    def seconds(self) -> float:
        return self.seen - self.since

    @property
    def fields(self) -> dict[str, Any]:
        job = None if self.context is None else self.context.job
        return {
            "run": None if job is None else job.run_id,
            "deployment": None if job is None else job.deployment,
            "file": self.file,
            "line": self.line,
            "seconds": round(self.seconds, 3),
        }


class LagMonitor:
    """Watches the loop it is started on while inline code runs: from :meth:`enter` to :meth:`leave`, on that loop.

    ``redact`` takes secrets out of the source lines that are shown. ``tell`` hears of each episode at its beginning
    (False) and its end (True), in the monitor's thread, after it was logged.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        redact: Callable[[str], str] = lambda text: text,
        tell: Callable[[Episode, bool], None] = lambda episode, ended: None,
        period_s: float = PERIOD_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.episodes = 0  # since the start
        self.longest_s = 0.0
        self._clock = clock
        self._redact = redact
        self._tell = tell
        self._period_s = period_s
        self._patience_s = patience_s
        self._open: dict[object, Episode] = {}  # by "loop" or the thread's number
        self._watched = 0
        self._asleep = False
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running loop and the thread it runs in."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._begin()
        self._thread = threading.Thread(target=self._run, name="tidemill-lag", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Episodes that go on are not told to have ended."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def enter(self) -> None:
        """Some inline code begins."""
        self._watched += 1
        if self._asleep:
            self._begin()  # here, because its first step may hold the interpreter before the thread has it
            self._asleep = False
            self._wake.set()

    def leave(self) -> None:
        """It has ended."""
        self._watched -= 1

    def problems(self) -> list[str]:
        """Return what holds others up now, in words."""
        now = self._clock.monotonic()
        return [
            f"{each.told} for {now - each.since:.1f} s now, at {each.place}; {_REMEDY}"
            for each in list(self._open.values())
        ]

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            if not self._watched and not self._open:
                self._sleep()
                continue
            self._closed.wait(self._period_s)
            try:
                self._look()
            except Exception:
                # Other threads' stacks change while they are read; a look that fails is followed by another.
                logger.exception("the lag monitor could not look")
        faulthandler.cancel_dump_traceback_later()

    def _sleep(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._asleep = True
        # Whoever enters counts itself first and looks for a sleeper then; here it is the other way round.
        if not self._watched:
            self._wake.wait()
        self._wake.clear()
        if self._asleep:  # nobody woke it
            self._asleep = False
            self._begin()

    def _begin(self) -> None:
        self._sent: float | None = None  # when the loop was asked, unless it has answered
        self._answered = self._looked = self._clock.monotonic()
        self._napped = 0.0  # since the last look
        self._step: object = None
        self._hogging: dict[int, tuple[float, float]] = {}  # by thread: since when, and when last
        self._cpu, self._total = self._used(), time.process_time()
        self._armed: float | None = None

    def _look(self) -> None:
        # From look to look: it may lose the interpreter in the midst of one. What it takes to probe is no one's fault.
        now = self._clock.monotonic()
        passed = now - self._looked - self._napped
        self._looked, self._napped = now, 0.0
        self._last_words(now)
        late = passed - self._period_s
        spent = self._spent()
        frames = sys._current_frames()
        try:
            if late >= self._patience_s:
                self._held(now, late, spent, frames)
                self._ask()
            else:
                self._ask_the_loop(now, frames.get(self._loop_thread))
                self._look_for_hogs(now, passed, spent, frames)
            self._close_ended(now)
        finally:
            frames.clear()  # a frame keeps its variables alive

    def _spent(self) -> Mapping[int, float]:
        """Return the processor seconds of each thread since the last look; nothing where it was next to nothing."""
        total = time.process_time()
        if total - self._total < self._period_s / 10:
            return {}
        before, self._cpu, self._total = self._cpu, self._used(), total
        return {thread: used - before[thread] for thread, used in self._cpu.items() if thread in before}

    def _ask(self) -> None:
        self._sent, self._step = self._clock.monotonic(), None
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            self._closed.set()

    def _answer(self) -> None:
        self._answered, self._sent = self._clock.monotonic(), None

    def _ask_the_loop(self, now: float, frame: FrameType | None) -> None:
        sent = self._sent
        if sent is None:
            self._end("loop", self._answered)
            if frame is None or frame.f_code not in WAITING:  # who waits for something to do blocks nobody
                self._ask()
            return
        step = step_of(frame, self._loop)
        # A thousand short steps in a row are a busy loop, not a blocked one: it must be the same step as before.
        if step is not None and step is self._step and now - sent >= self._patience_s:
            self._found("loop", "blocks", sent, now, frame=frame, thread=self._loop_thread)
        self._step = step

    def _held(self, now: float, late: float, spent: Mapping[int, float], frames: Mapping[int, FrameType]) -> None:
        """This thread could not run: who used the processor meanwhile kept the lock. Nobody: the machine slept.

        On a busy machine it got a part of the processor only; before the machine slept, no more than a look's period.
        """
        thread = max(spent, key=lambda each: spent[each], default=None)
        if thread is not None and spent[thread] >= min(self._patience_s, late / 2):
            self._found(thread, "holds", now - late, now, frame=frames.get(thread), thread=thread)

    def _look_for_hogs(
        self, now: float, passed: float, spent: Mapping[int, float], frames: Mapping[int, FrameType]
    ) -> None:
        mine = (self._loop_thread, threading.get_ident())
        others = {thread: used for thread, used in spent.items() if thread not in mine and used >= passed / 20}
        loop = spent.get(self._loop_thread, 0.0)
        # On a busy machine nobody gets a whole processor: what counts is that others use more of it than the loop. And
        # where the loop's own thread is the one that computes, others use theirs outside of the lock.
        if loop >= passed / 2 or sum(others.values()) < max(loop, passed / 8) or not self._contended():
            others = {}
        for thread in others:
            since, _ = self._hogging.get(thread, (now - passed, now))
            self._hogging[thread] = since, now
        # One look may find the lock free by chance.
        lately = now - 2.5 * self._period_s
        self._hogging = {thread: (since, seen) for thread, (since, seen) in self._hogging.items() if seen >= lately}
        worst = sorted(others, key=lambda thread: others[thread], reverse=True)[:SHOWN]
        for thread in others:
            since, _ = self._hogging[thread]
            if thread in self._open or (thread in worst and now - since >= self._patience_s):
                self._found(thread, "hogs", since, now, frame=frames.get(thread), thread=thread)

    def _contended(self) -> bool:
        """Say whether somebody else holds the interpreter lock nearly all the time: giving it up costs its interval."""
        slow, free = 0, 0
        while slow < PROBES and free < PROBES:
            began = self._clock.monotonic()
            # Not 0: this thread would have the lock back before the other one has woken up to take it.
            time.sleep(PROBE_S)
            took = self._clock.monotonic() - began
            if took < self._patience_s:
                self._napped += took
            if took < PROBE_S + sys.getswitchinterval() / 2:
                free += 1
            else:
                slow += 1
        return slow == PROBES

    def _used(self) -> dict[int, float]:
        """Return the processor seconds each thread has used, by its identifier; empty where the system cannot say."""
        used: dict[int, float] = {}
        for thread in threading.enumerate():
            if thread.ident is None or thread.native_id is None:
                continue
            try:
                # The clock of a thread by its number (clock_getcpuclockid(3) is made so): a number that is gone is an
                # error here, where pthread_getcpuclockid would read freed memory.
                used[thread.ident] = time.clock_gettime((~thread.native_id << 3) | 6)
            except (OSError, OverflowError):
                continue
        return used

    def _last_words(self, now: float) -> None:
        """Have the interpreter write all stacks to stderr, without its lock, should this thread not run for long."""
        if self._armed is None or now - self._armed > LAST_WORDS_S / 3:
            self._armed = now
            try:
                faulthandler.dump_traceback_later(LAST_WORDS_S, file=sys.__stderr__ or 2)
            except (OSError, ValueError, AttributeError):
                self._armed = float("inf")  # there is no stderr

    # --- episodes ---------------------------------------------------------------------------------------------------

    def _found(self, key: object, kind: str, since: float, now: float, *, frame: FrameType | None, thread: int) -> None:
        episode = self._open.get(key)
        if episode is not None:
            episode.seen = now
            episode.times += 1
            return
        names = {each.ident: each.name for each in threading.enumerate()}
        episode = Episode(kind, since, frame, f"thread {names.get(thread, thread)}")
        episode.place = self._redact(episode.place)
        episode.seen = now
        self._open[key] = episode
        self.episodes += 1
        for_now = "for" if kind == "holds" else "for more than"
        self._say(episode, f"{_TOLD[kind]} {for_now} {episode.seconds:.1f} s, at {episode.place}; {_REMEDY}")
        self._tell(episode, False)

    def _close_ended(self, now: float) -> None:
        for key, episode in list(self._open.items()):
            # A hog gives others their turns, and one look may miss it; what held everything has ended already.
            if key != "loop" and now - episode.seen > 2.5 * self._period_s:
                self._end(key, episode.seen)

    def _end(self, key: object, ended: float) -> None:
        episode = self._open.pop(key, None)
        if episode is None:
            return
        episode.seen = max(ended, episode.seen)
        self.longest_s = max(self.longest_s, episode.seconds)
        if episode.kind != "holds":
            self._say(episode, f"no longer {_TOLD[episode.kind]}: it did for {episode.seconds:.1f} s")
        elif episode.times > 1:
            self._say(episode, f"{_TOLD['holds']}, {episode.times} times in {episode.seconds:.1f} s")
        self._tell(episode, True)

    def _say(self, episode: Episode, what: str) -> None:
        logger.warning("%s %s", episode.who, what, extra={"fields": episode.fields})
        if episode.context is not None:
            episode.context.log(f"the flow's code {what}", logging.WARNING, FLOW)
