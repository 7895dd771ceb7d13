"""What can go wrong with a segment, a task or an environment, and whose fault it is; every message is one sentence.

A ``SegmentFailed`` may say something about the shaping, a ``SegmentImpossible`` never does.
"""

from __future__ import annotations

import errno

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class SegmentFailed(RuntimeError):
    """A segment cannot be computed or read; the message is one sentence.

    ``env_steps`` of it were trained all the same, as far as is known: what fails on the way has cost them.
    """

    def __init__(self, message: str, *, env_steps: int = 0) -> None:
        super().__init__(message)
        self.env_steps = env_steps


class SegmentImpossible(SegmentFailed):
    """The machine or the program, not the segment, is at fault: trying again later may succeed.

    It says nothing about the shaping, so it must never count as a failure of one.
    """


class SegmentStopped(RuntimeError):
    """The caller asked a segment to stop; nothing of it was stored."""


def failure_of(error: Exception, segment: str, env_steps: int = 0) -> SegmentFailed:
    """What an exception that ended a segment means for it: ``SegmentImpossible`` or ``SegmentFailed``.

    What the operating system, the memory or the import system raised is the machine's; every other exception
    is the segment's own. A ``SegmentFailed`` keeps its class and words; ``env_steps`` counts where it knows fewer.
    """
    text = " ".join(str(error).split())
    if isinstance(error, SegmentFailed):
        kind = SegmentImpossible if isinstance(error, SegmentImpossible) else SegmentFailed
        return kind(text, env_steps=max(env_steps, error.env_steps))
    cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        message = f"The disk is full: segment {segment} could not be stored ({cause}); free space and resume."
    elif isinstance(error, OSError):
        message = f"The machine failed segment {segment} ({cause}); put that right and resume."
    elif isinstance(error, MemoryError):
        message = f"The memory is full: segment {segment} could not be trained ({cause}); free some and resume."
    elif isinstance(error, ImportError):
        message = f"The program could not load what segment {segment} needs ({cause}); install it and resume."
    else:
        return SegmentFailed(cause, env_steps=env_steps)
    return SegmentImpossible(message, env_steps=env_steps)


def sentence(error: BaseException) -> str:
    """An exception as one line: its own words, or its type where it has none."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class UnknownTask(ValueError):
    """No task has the name that was asked for."""


class TaskOptionError(ValueError):
    """A task has no such option, or the option's value is not one it takes."""


class EnvironmentRefused(ValueError):
    """An environment or its declaration is unsupported; one sentence."""


class EnvironmentFailed(SegmentImpossible):
    """The code of an environment failed or broke its contract; one sentence. It says nothing about any shaping."""
