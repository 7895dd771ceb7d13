"""Ctrl-C, SIGTERM and SIGHUP: the first pauses after the running step, the second stops at once.

Both leave a session that resumes. SIGTERM is what docker stop and a cluster's pre-emption send, SIGHUP a closed ssh.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from rich.text import Text

from learning_signal.ledger.wording import resume_command
from learning_signal.viewer.cli.terminal import STOPPED, err, go_on, log_to, silence

ABORT_SECONDS = 1.5
"""Seconds after which a second Ctrl-C ends the process in any case; what was committed is kept."""

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
"""The signals that pause, and what they are called."""


def watch(
    work: Callable[[Any, Any], Awaitable[Any]],
    view: Any,
    control: Any,
    ledger: Path,
    verbose: bool,
    again: str | None = None,
) -> Any:
    """The result of the coroutine ``work(view, control)``, run under its view and under Ctrl-C.

    ``view`` is a context manager with ``console``, ``session``, ``say`` and ``stop``; ``control`` can ``request_pause``
    and ``abort``. ``again`` is the command that resumes what is not a session.
    """
    interrupts = Interrupts(control, view, ledger, again)
    before = {number: signal.getsignal(number) for number in SIGNALS}

    async def body() -> Any:
        loop = asyncio.get_running_loop()
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # keep a SIGHUP that nohup ignores
                signal.signal(number, lambda arrived, _: interrupts.arrived(loop, SIGNALS[signal.Signals(arrived)]))
        return await work(view, control)

    go_on(True)
    log_to(view.console, verbose)
    try:
        with view:
            return asyncio.run(body())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        interrupts.close()
        log_to(err, verbose)


class Interrupts:
    """Counts the interrupts of one session. ``control`` pauses and aborts it, ``view`` shows it and knows its id."""

    def __init__(self, control: Any, view: Any, ledger: Path, again: str | None = None) -> None:
        self._control, self._view, self._ledger, self._again = control, view, ledger, again
        self._arrived = self._count = 0
        self._timer: threading.Timer | None = None

    def arrived(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        """A signal is here: the loop is to act on it. From the second on the process ends even if the loop does not,
        which may be waiting for a locked ledger.
        """
        self._arrived += 1
        if self._arrived == 2:
            self._timer = threading.Timer(ABORT_SECONDS, self._leave)
            self._timer.daemon = True
            self._timer.start()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self.interrupt, name)

    def interrupt(self, name: str) -> None:
        """One more of `SIGNALS`, by its name."""
        self._count += 1
        command = self._again or resume_command(self._view.session or "latest", self._ledger)
        if self._count == 1:
            self._say(f"{name}: pausing after the running step; a second one stops at once. Resume with: {command}")
            self._control.request_pause()
        elif self._count == 2:
            self._say(f"{name}: stopping at once. Resume with: {command}")
            self._control.abort()

    def close(self) -> None:
        """The session has ended by itself: cancel the timer that would end the process."""
        if self._timer is not None:
            self._timer.cancel()

    def _say(self, text: str) -> None:
        try:
            self._view.say(Text(text, "bold yellow"))
        except OSError:
            silence()  # the terminal is gone (SIGHUP): discard further output

    def _leave(self) -> NoReturn:
        self._view.stop()
        os._exit(STOPPED)
