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


def write_json(file: Path, data: Any) -> None:
    """Write JSON in ASCII, so that no text in it can be anything but text."""
    file.write_text(json.dumps(data, indent=1, default=str, allow_nan=False) + "\n", encoding="ascii")
