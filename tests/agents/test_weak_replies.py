"""Every weak reply comes to its expected end: none ends a session, none voids what the other agents found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.weak_replies import CASES, Case, problems, run_case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_weak_reply_comes_to_its_end(case: Case):
    assert problems(case, run_case(case)) == []


def test_there_are_at_least_25_kinds():
    assert len({case.name for case in CASES}) == len(CASES) >= 25


def test_an_end_that_is_not_come_to_is_seen():
    """Negative control: an agent that never decides has not recovered, and others are told other things."""
    never = next(case for case in CASES if case.name == "never decides")
    ending = run_case(never)
    assert problems(replace(never, end="recovered"), ending)[0].startswith("it came to: ")
    assert problems(replace(never, told="zebra", action="roll_back"), ending) == [
        f"the round ended with {ending.action}",
        "nobody was told 'zebra'",
    ]
    assert problems(never, replace(ending, status="paused", sound=False)) == [
        "the session is paused",
        "the log is not sound",
    ]
