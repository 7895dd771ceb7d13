"""Numbers as the agents are shown them in behaviour evidence: three significant digits."""

from __future__ import annotations

from typing import Any


def rounded_body(value: Any) -> Any:
    """``value`` with every float in it to three significant digits."""
    if isinstance(value, dict):
        return {key: rounded_body(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded_body(inner) for inner in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
