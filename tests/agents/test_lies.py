"""Every kind of lie over HTTP: refused or marked, shown as such to all later readers, and never promoted without a
pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.lies import CASES, NEXT, Case, problems, run_case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_lie_comes_to_its_end(case: Case):
    assert problems(case, run_case(case)) == []


def test_there_are_lies_of_every_agent_and_of_every_end():
    assert len({case.name for case in CASES}) == len(CASES) >= 15
    assert {case.role for case in CASES} == set(NEXT)
    assert {case.ends for case in CASES} == {"refused, then marked", "marked", "refused"}


def test_a_lie_that_does_not_come_to_its_end_is_seen():
    """Negative control, on the ending of a lie of the Critic."""
    case = next(case for case in CASES if case.role == "critic" and case.ends == "refused, then marked")
    ending = run_case(case)
    assert problems(replace(case, words="zebra"), ending) == [
        "nobody was told 'zebra'",
        "what was refused is not marked when it is said again",
    ]
    hidden = replace(ending, explained=False, noticed=False, readers=frozenset(), promoted=("c9",))
    assert problems(case, hidden) == [
        "it was promoted without a pass",
        "explain does not show every mark",
        "the marks, computed again, are others",
        "the next agent is not shown every mark",
    ]
