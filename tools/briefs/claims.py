"""Words of one agent in the brief of another: in a field that says whose they are, with what code found in them."""

from __future__ import annotations

from typing import Any

from learning_signal.tools.claims.keep import unsupported
from learning_signal.tools.context import SessionContext


def said(context: SessionContext, agent: str, words: Any, about: str, row_id: str, field: str = "") -> dict[str, Any]:
    """``words`` of ``agent`` as ``{agent}_says``, and under ``unsupported`` the marks of the claim about a row.

    ``field`` takes only the marks of one field, as of one candidate's rationale.
    """
    found = unsupported(context, about, row_id, field)
    return {f"{agent}_says": words} | ({"unsupported": found} if found else {})
