"""Whether the process that runs a session still lives."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

SILENT_SECONDS = 60.0
"""A process on another host counts as gone when its last heartbeat is older than this."""

_CLOCK_MARGIN = timedelta(seconds=2)
"""The kernel tells when it booted in whole seconds."""


def process_lives(host: str, pid: int, heartbeat_at: str) -> bool:
    """Whether the process that a session's row names still exists.

    On this host the kernel is asked: a silent process may only be stopped or busy, and would go on writing. A process
    that began after the session's last heartbeat merely reuses the pid. Of another host only the heartbeat is known.
    """
    import socket  # only for sessions that are said to run

    if host != socket.gethostname() or os.name != "posix":
        silent = datetime.now(UTC) - datetime.fromisoformat(heartbeat_at)
        return silent.total_seconds() <= SILENT_SECONDS
    try:
        os.kill(pid, 0)  # sends nothing: asks whether the process exists
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists, and is another user's
    state, began = _state_and_start(pid)
    if state in ("Z", "X"):  # a zombie: dead, and not yet reaped by its parent
        return False
    return began is None or began <= datetime.fromisoformat(heartbeat_at) + _CLOCK_MARGIN


def _state_and_start(pid: int) -> tuple[str | None, datetime | None]:
    """The state letter of a process and when it began; None where the system (no Linux) does not tell."""
    try:
        # the name of the program, in parentheses, may itself hold spaces and parentheses
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        lines = Path("/proc/stat").read_text().splitlines()
        booted = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        ticks = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None, None
    return after_name[0], datetime.fromtimestamp(booted, UTC) + timedelta(seconds=ticks)
