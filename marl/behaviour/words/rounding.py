"""Behaviour evidence as JSON text: numbers with three significant digits, no spaces."""

from __future__ import annotations

import json
from typing import Any


def json_text(body: Any) -> str:
    """``body``, rounded, as JSON text without spaces, which are tokens; ``ValueError`` for NaN and infinity."""
    return json.dumps(rounded_body(body), allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def rounded_body(value: Any) -> Any:
    """``value`` with every float in it to three significant digits."""
    if isinstance(value, dict):
        return {key: rounded_body(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded_body(inner) for inner in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
