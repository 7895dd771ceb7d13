"""Calls of a user's own code: whatever it raises is a failure with its place, an attempt to end the program, too."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from learning_signal.marl.errors import sentence
from learning_signal.marl.tasks.foreign.callables import place_of_file


class OwnCodeFailed(Exception):
    """The user's code raised something: what, and where in which of their files, as a phrase."""


Moment = tuple[int, int]
"""The seed of an episode, and a step of it."""
Watcher = Callable[[str, Moment | None], None]


def call(what: str, moment: Moment | None, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """The answer of the user's code; raises ``OwnCodeFailed``.

    Who watches is told before it is called: ``what``, and when.
    """
    if _watcher is not None:
        _watcher(what, moment)
    try:
        with inside:
            return function(*given, **named)
    except (Exception, SystemExit) as error:
        raise OwnCodeFailed(phrase(error)) from error


class ProcessExit(SystemExit):
    """The user's code called ``os._exit``: the exit code."""


class _Inside(threading.local):
    """A context in which ``os._exit`` raises ``ProcessExit``, in this thread: nothing would be left to say what ended.

    A process that the user's code forks ends as it wants.
    """

    depth = process = 0

    def __enter__(self) -> None:
        if os._exit is not _refused_exit:
            os._exit = _refused_exit
        self.depth += 1
        self.process = os.getpid()

    def __exit__(self, *raised: object) -> None:
        self.depth -= 1


def _refused_exit(status: int) -> NoReturn:
    if inside.depth and inside.process == os.getpid():
        raise ProcessExit(status)
    _exit(status)


_exit = os._exit
inside = _Inside()
"""Around every call of the user's code, its import too."""
_watcher: Watcher | None = None


def watch(watcher: Watcher) -> None:
    """Have ``watcher`` told of every call from now on, before it is made."""
    global _watcher
    _watcher = watcher


def phrase(error: BaseException) -> str:
    """An exception of the user's code, and the line of theirs that it came from, where there is one."""
    said = sentence(error)
    if isinstance(error, SystemExit):
        name = "os._exit" if isinstance(error, ProcessExit) else "sys.exit"
        said = f"it ended the program: {name}({'' if error.code is None else repr(error.code)})"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if place_of_file(frame.filename) == "own"]
    return f"{said}, in {_shown(own[-1].filename)}, line {own[-1].lineno}" if own else said


def _shown(file: str) -> str:
    """A file's path, from the working folder where it lies in it."""
    within = os.path.relpath(file)
    return file if within.startswith("..") else within
