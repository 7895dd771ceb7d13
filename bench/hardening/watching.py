"""What a process does beyond its folder: files that it changes, programs that it starts, hosts that it contacts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
}  # fmt: skip
"""Events of Python whose first arguments are paths that are changed."""
_OWN = (sys.executable, "ssh-keygen", "uname")
"""What the program starts itself: workers and checks, signatures, and the SDKs' question for the system's name."""
_HERE = ("127.0.0.1", "localhost", "::1")


def watch(folders: Iterable[Path], ports: Collection[int] | None, note: Callable[[str], None]) -> None:
    """From now on tell ``note`` of what this process changes outside of ``folders``, and starts, and contacts.

    It may use the ``ports`` of this machine (None: all of them), and what it starts itself. A hook of Python's
    cannot be taken away again.
    """
    roots = [os.path.realpath(folder) for folder in folders]
    allowed = (*(root + os.sep for root in roots), "/dev/", "/proc/self/")

    def outside(path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)) or not path:
            return False
        real = os.path.realpath(os.fsdecode(path))
        return real not in roots and not real.startswith(allowed)

    def here(address: tuple[Any, ...]) -> bool:
        return address[0] in _HERE and (ports is None or address[1] in ports)

    def told(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[2], int) and given[2] & _WRITES and outside(given[0]):
            note(f"writes {os.fsdecode(given[0])}")
        elif event in _CHANGES:
            for path in given[:2]:
                if outside(path):
                    note(f"{event} {os.fsdecode(path)}")
        elif event == "sqlite3.connect" and "mode=ro" not in str(given[0]) and outside(_file(str(given[0]))):
            note(f"opens the database {given[0]}")
        elif event == "socket.connect" and isinstance(given[1], tuple) and not here(given[1]):
            note(f"contacts {given[1][0]}:{given[1][1]}")
        elif event == "socket.getaddrinfo" and given[0] not in (*_HERE, "0.0.0.0", None):
            note(f"looks up {given[0]!r}")
        elif event == "subprocess.Popen" and os.fspath(given[0]) not in _OWN:
            note(f"starts {given[0]}")
        elif event in ("os.system", "os.exec", "os.posix_spawn"):
            note(f"starts {given[0]}")

    sys.addaudithook(told)


def _file(database: str) -> str:
    """The file of a name or URI of a database."""
    return unquote(database.removeprefix("file:").partition("?")[0]).replace(":memory:", "")
