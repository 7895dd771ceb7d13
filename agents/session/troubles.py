"""Whose backend never worked in a session."""

from __future__ import annotations

from learning_signal.ledger.read.decision.explain import troubles_of
from learning_signal.ledger.read.reader import Reader

ENDING = frozenset(
    ("submit_diagnosis", "submit_proposal", "submit_validation", "promote", "keep", "send_back", "roll_back")
)
"""The tools that end a phase."""


def never_worked(reader: Reader, session: str) -> list[tuple[str, str]]:
    """(role, backend) of those in trouble of which no reply ever led to an accepted submission."""
    identity = reader.session_id(session)
    spoke = reader.rows(
        "SELECT agent, spec, event_seq FROM llm_calls WHERE session_id = ? ORDER BY event_seq", (identity,)
    )
    submitted = reader.rows(
        "SELECT agent, name, event_seq FROM tool_calls WHERE session_id = ? AND status = 'ok' ORDER BY event_seq",
        (identity,),
    )
    worked = set()
    for call in submitted:
        before = [each for each in spoke if each["agent"] == call["agent"] and each["event_seq"] < call["event_seq"]]
        if before and call["name"] in ENDING:
            worked.add((call["agent"], before[-1]["spec"]))
    in_trouble = {each.agent for each in troubles_of(reader, identity)}
    asked = dict.fromkeys((each["agent"], each["spec"]) for each in spoke if each["agent"] in in_trouble)
    return [each for each in asked if each not in worked]
