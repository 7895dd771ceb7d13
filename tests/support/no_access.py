"""A folder that this process may read and not write, also where the tests are run by root."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CAPABILITY_VERSION = 0x20080522
OVERRIDES = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: by these root reads and writes whatever the permissions say (Linux)."""


@contextmanager
def only_to_read(*files: Path) -> Iterator[Path]:
    """A folder with copies of ``files`` (folders whole), in which nothing can be written until the block ends."""
    with tempfile.TemporaryDirectory(prefix="learning-signal-test-") as name:
        folder = Path(name)
        for each in files:
            copy = shutil.copytree if each.is_dir() else shutil.copy
            copy(each, folder / each.name)
        everything = [folder, *folder.rglob("*")]
        for each in everything:
            each.chmod(0o555 if each.is_dir() else 0o444)
        try:
            with _as_an_ordinary_user():
                yield folder
        finally:
            for each in everything:
                each.chmod(0o755)


@contextmanager
def _as_an_ordinary_user() -> Iterator[None]:
    """Permissions hold for this thread and for those that it starts."""
    if os.geteuid() != 0:
        yield
        return
    system = ctypes.CDLL(None, use_errno=True)
    header, held = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert system.capget(header, held) == 0
    before = held[0]
    held[0] = before & ~OVERRIDES
    assert system.capset(header, held) == 0
    try:
        yield
    finally:
        held[0] = before
        assert system.capset(header, held) == 0
