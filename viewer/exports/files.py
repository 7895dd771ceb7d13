"""What every export has in common: an extra that may be missing, and JSON that any reader takes."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any


class ExportError(Exception):
    """A session cannot be exported so; one sentence."""


def of_extra(module: str, extra: str) -> Any:
    """A module of an extra of this program; ``ExportError`` where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ExportError(
            f"{module.partition('.')[0]} is not installed, expected it for this export: run "
            f"'.venv/bin/pip install -e .[{extra}]'."
        ) from error


def write_json(file: Path, data: Any, *, one_line: bool = False) -> None:
    """Write JSON in ASCII, so that no text in it can be anything but text."""
    written = json.dumps(data, indent=None if one_line else 1, default=str, allow_nan=False)
    file.write_text(f"{written}\n", encoding="ascii")
