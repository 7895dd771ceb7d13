"""Every weak reply comes to its expected end: none ends a session, none voids what the other agents found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.weak_replies import CASES, Case, run_case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_weak_reply_comes_to_its_end(case: Case):
    ending = run_case(case)
    assert (ending.status, ending.end, ending.action) == ("done", case.end, case.action)
    assert case.told in ending.said and ending.sound
    if case.end in ("recovered", "understood"):
        assert ending.turns <= (2 if case.end == "recovered" else 0)


def test_there_are_at_least_25_kinds():
    assert len({case.name for case in CASES}) == len(CASES) >= 25


def test_an_end_that_is_not_come_to_is_seen():
    """Negative control: an agent that never decides has not recovered."""
    never = next(case for case in CASES if case.name == "never decides")
    assert run_case(never).end != replace(never, end="recovered").end
