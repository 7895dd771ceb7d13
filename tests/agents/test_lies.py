"""Every kind of lie over HTTP: refused or marked, shown as such to all later readers, and never promoted without a
pass."""

from __future__ import annotations

import pytest

from tests.support.lies import CASES, NEXT, Case, run_case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_lie_comes_to_its_end(case: Case):
    ending = run_case(case)
    assert ending.status == "done" and ending.damage == []
    assert ending.ends == case.ends
    assert case.words in "\n".join(ending.refused if "refused" in case.ends else ending.marks)
    assert set(ending.promoted) <= set(ending.passed), "nothing is promoted without a pass"
    assert ending.explained and ending.noticed
    if ending.marks:
        assert NEXT[case.role] in ending.readers
    if case.role == "critic" and ending.refused:
        assert case.words in "\n".join(ending.marks), "what is refused first is marked when it is said again"
        assert len(ending.refused) == len({*ending.refused}) == 1


def test_there_are_lies_of_every_agent_and_of_every_end():
    assert len({case.name for case in CASES}) == len(CASES) >= 15
    assert {case.role for case in CASES} == set(NEXT)
    assert {case.ends for case in CASES} == {"refused, then marked", "marked", "refused"}
