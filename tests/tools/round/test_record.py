"""Two modules write the facts of a round: no other source assigns to them."""

from __future__ import annotations

import re

import pytest

from learning_signal.tools.state import Round
from tests.support.places import ROOT

STATE = ("round", "head", "probation", "tried", "history", "branches", "comparisons")
FACTS = re.compile(
    rf"\b(?:round\.(?:{'|'.join(Round.model_fields)})|state\.(?:{'|'.join(STATE)}))(?:\[[^\]]*\])?"
    r"(?:\s*[-+|]?=(?!=)|\.(?:append|extend|update|clear|pop)\()"
)


def test_only_the_records_assign_to_the_facts_of_a_round():
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ("tools", "agents")
        for path in (ROOT / room).rglob("*.py")
        if FACTS.search(path.read_text("utf-8"))
    }
    assert found == {"tools/round/record.py", "tools/round/record_branches.py"}


@pytest.mark.parametrize(
    ("line", "writes"),
    [
        ("context.round.questions += 1", True),
        ("context.round.proposals.append(proposal)", True),
        ("context.round.records['critic'] = text", True),
        ("state.head = after", True),
        ("if context.round.decision == decision:", False),
        ("number = context.round.number", False),
    ],
)
def test_an_assignment_is_told_from_a_reading(line, writes):
    """Negative control."""
    assert bool(FACTS.search(line)) == writes
