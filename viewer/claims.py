"""What the record says and what an agent claims, told apart: the record plainly, a claim in quotes, then its marks."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from learning_signal.ledger.read.claims import ClaimRow
from learning_signal.viewer.text import agent_text, clean


def record_text(words: str | Text) -> Text:
    """What code computed or wrote."""
    return Text.assemble(("record: ", "bold"), words if isinstance(words, Text) else clean(words))


def claim_text(agent: str | None, words: str) -> Text:
    """What an agent or a person said, on one line."""
    return Text.assemble(("claim by ", "dim"), agent_text(agent), ": ", quoted(words))


def quoted(words: str) -> Text:
    """Words of an agent, in quotes and italics."""
    return Text(f"“{clean(words)}”", "italic")


def mark_lines(claims: Sequence[ClaimRow], about: str, row_id: str, field: str = "") -> list[Text]:
    """The marks of the claim about one row, one line each; of one field where it is named."""
    marks = [mark for each in claims if (each.about, each.row_id) == (about, row_id) for mark in each.marks]
    return [unsupported(mark["problem"]) for mark in marks if field in ("", mark["field"])]


def unsupported(problem: str) -> Text:
    """A mark."""
    return Text(f"unsupported: {clean(problem)}", "bold red")
