"""Which versions run here: of this program, of Python and of torch, none of them imported."""

from __future__ import annotations

import platform


def versions() -> str:
    """For example ``learning-signal 0.1.0, Python 3.11.7, torch 2.9.0+cpu``."""
    python = f"Python {platform.python_version()}"
    return f"learning-signal {_installed('learning-signal')}, {python}, torch {_installed('torch')}"


def _installed(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # too slow for a command that prints no version

    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
