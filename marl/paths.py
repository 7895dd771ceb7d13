"""Names that come from data, held inside the folder they belong to."""

from __future__ import annotations

from pathlib import Path


class OutsideFolder(ValueError):
    """A name from a file leads out of its folder; one sentence."""


def inside(folder: str | Path, name: str) -> Path:
    """The path of ``name`` directly in ``folder``, whether it exists or not.

    ``OutsideFolder`` where ``name`` is no single name (``..``, one with a separator, an absolute path) or is a link
    that leads elsewhere: what came with a stranger's folder must not choose what is read or written.
    """
    folder = Path(folder)
    path = folder / name
    if not name or "\0" in name or name in (".", "..") or path.name != name or path.parent != folder:
        raise OutsideFolder(
            f"Found the name {name!r}, expected one of something in {folder}, without a path: do not use the file that "
            "it comes from."
        )
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise OutsideFolder(f"{path} is a link to {path.resolve()}, expected something in {folder}: remove the link.")
    return path
