"""What a person types at this terminal, line by line, and nothing that was typed before it was asked for."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console

LOOK_SECONDS = 0.1
"""Between two looks whether the question is taken back."""


class Keyboard:
    """Standard input where it is a terminal. Lines are read from it directly, so that nothing waits in a buffer."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @property
    def here(self) -> bool:
        """Whether a person can type here: standard input is a terminal."""
        try:
            return sys.stdin is not None and sys.stdin.isatty()
        except ValueError:  # it is closed
            return False

    def forget(self) -> None:
        """Drop what was typed so far."""
        number = sys.stdin.fileno()
        if _in_front(number):
            with suppress(termios.error):
                termios.tcflush(number, termios.TCIFLUSH)

    def line(self, prompt: str, withdrawn: Callable[[], bool]) -> str | None:
        """The next line that is typed, without its end; None once ``withdrawn`` says so.

        Raises ``EOFError`` where the input ends (Ctrl-D, or the terminal is gone).
        """
        self._console.print(prompt, end="", markup=False, soft_wrap=True)
        self._console.file.flush()
        number = sys.stdin.fileno()
        while not withdrawn():
            ready, _, _ = select.select([number], [], [], LOOK_SECONDS)
            if not ready:
                continue
            if not _in_front(number):  # to read would stop this process, which runs in the background
                time.sleep(LOOK_SECONDS)
                continue
            try:
                typed = os.read(number, 65536)
            except OSError:
                typed = b""
            if not typed:
                raise EOFError
            return typed.decode("utf-8", "replace").rstrip("\r\n")
        self._console.print()
        return None


def _in_front(terminal: int) -> bool:
    """Whether this process may read its terminal; also true where the terminal does not tell."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True
