"""Event loops whose clocks jump: waiting takes no time, and how long was waited is exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

MOMENT = 0.01
"""Seconds after which nothing more comes from a socket of this process."""


class _Selector(selectors.SelectSelector):
    """Looks without waiting, and counts the seconds that were to be waited."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.waited += timeout or 0.0
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that wait for timers alone; what waits for a socket or a thread would never end."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.waited


class _Impatient(selectors.SelectSelector):
    """Looks at the sockets for a moment, and counts the seconds that were to be waited for a timer."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(min(timeout, MOMENT))
        if not ready:
            self.waited += timeout
        return ready


class ImpatientLoop(asyncio.SelectorEventLoop):
    """For coroutines that talk over sockets with each other: what no one answers within a moment is waited for no
    longer, and its timer goes off. Time passes only there, so a slow machine makes nobody late.
    """

    def __init__(self) -> None:
        self._clock = _Impatient()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.waited


def run_in_virtual_time(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of ``work``."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
