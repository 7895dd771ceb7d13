"""Words of one agent in the brief of another: in a field that says whose they are, with what code found in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from learning_signal.tools.context import SessionContext


def said(context: SessionContext, agent: str, words: Any, about: str, row_id: str, field: str = "") -> dict[str, Any]:
    """``words`` of ``agent`` as ``{agent}_says``, and under ``unsupported`` the marks of the claim about a row.

    ``field`` takes only the marks of one field, as of one candidate's rationale.
    """
    found = unsupported(context, about, row_id, field)
    return {f"{agent}_says": words} | ({"unsupported": found} if found else {})


def unsupported(context: SessionContext, about: str, row_id: str, field: str = "") -> list[str]:
    """The problems of the stored claim about a row; none where there is no claim about it."""
    found: list[str] = []
    for row in context.ledger.find("claims", session_id=context.session, about=about, row_id=row_id):
        marks: list[Mapping[str, Any]] = json.loads(_body(context, row["marks"]))
        found += [mark["problem"] for mark in marks if field in ("", mark["field"])]
    return found


def _body(context: SessionContext, address: str) -> str:
    (row,) = context.ledger.rows("SELECT body FROM bodies WHERE hash = ?", (address,))
    return str(row["body"])
