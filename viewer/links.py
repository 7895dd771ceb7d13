"""Links that came with somebody's folder: nothing is written through one."""

from __future__ import annotations

from pathlib import Path


class LinkedElsewhere(Exception):
    """What is to be written is a link that leads elsewhere; one sentence."""


def refuse_link(path: Path) -> Path:
    """``path`` itself; ``LinkedElsewhere`` where it is a link that leads out of the folder in which it lies."""
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise LinkedElsewhere(
            f"{path} is a link to {path.resolve()}, expected a file or folder there, or none: remove the link, or name "
            "another place with --to."
        )
    return path
