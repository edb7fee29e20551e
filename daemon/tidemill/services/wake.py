"""Sleeping until a time or until woken, whichever is first."""

from __future__ import annotations

import asyncio


class Wake:
    """One sleeper that can be woken. A wake that comes while nobody sleeps is kept."""

    def __init__(self) -> None:
        self._woken = False
        self._sleeper: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the sleeper, or the next one."""
        self._woken = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Sleep for ``seconds`` of the loop's time or until woken; say whether woken."""
        if not self._woken and seconds > 0:
            loop = asyncio.get_running_loop()
            self._sleeper = sleeper = loop.create_future()
            timer = loop.call_later(seconds, _finish, sleeper)
            try:
                await sleeper
            finally:
                timer.cancel()
                self._sleeper = None
        else:
            await asyncio.sleep(0)
        woken, self._woken = self._woken, False
        return woken


def _finish(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class Pulse:
    """Something that happens again and again: everybody who waits goes on at its next time."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def tell(self) -> None:
        """It has happened."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            _finish(each)

    async def wait(self) -> None:
        """Return at the next time."""
        await self.next()

    def next(self) -> asyncio.Future[None]:
        """Return what is done at the next time from now on."""
        each: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(each)
        return each
