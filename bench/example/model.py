"""A strong model on the warehouse: the answers that one gave in a recorded session, to be given again.

Recorded in November 2026 on `rware-tiny-2ag-easy-v2`, seed 0, at version 0.1 (`tests/support/strong_rware.py` has its
candidates). Word for word are the failures and advice of the Critic but for their numbers, which belong to that run,
the three candidates with rationale and forecast, and both sentences of the Validator. Adapted: version 0.1 had the
candidate with the most progress confirmed, c2, although the model wrote that it should be c3; here it has c3 confirmed,
or the first of the ranking where c3 may not be. The Coordinator promotes what passed, in one short sentence.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.scripted_server import Reply, Request, calls
from tests.support.strong_rware import CANDIDATES

FAILURES = (
    "Agents lift whatever shelf they stand under: holds_unrequested rises towards the end of an episode while "
    "holds_requested stays near 0. A robot with an unrequested shelf can no longer pass below shelves, so it is stuck.",
    "Almost no reward signal: hardly an episode delivers a shelf, although entropy is still high.",
    "Nothing pulls robots to requested shelves: pickup_distance does not fall.",
)
ADVICE = (
    "1) pickup_distance together with a bonus for holds_requested (otherwise picking up pays nothing), agent scope. "
    "2) a penalty on holds_unrequested with return_distance so that a robot that lifted the wrong shelf puts it back. "
    "3) delivery_distance once requested shelves are held. Do not use blocked, contested or spacing: symptoms."
)
READING = (
    "c2 pays for lifting requested shelves and nothing for bringing them to a goal. "
    "c3 is the candidate that should be confirmed."
)
ANSWERED = "Signs and strengths are meant so: moves are counted in steps, and a pick-up must be worth the way."


async def answer(request: Request) -> Reply:
    """The reply to a request."""
    messages = request.body["messages"]
    role = re.search(r"You are the (\w+)", messages[0]["content"])[1].lower()
    turn = sum(message["role"] == "assistant" for message in messages)
    name, arguments = _SAYS[role](messages)
    return calls([(f"call_{turn}", name, json.dumps(arguments))], usage=None, model="strong-model")


def _critic(messages: list[Any]) -> tuple[str, dict[str, Any]]:
    brief = json.JSONDecoder().raw_decode(messages[1]["content"].partition("\n")[2])[0]
    cited = [each["result"]["evidence"] for each in brief["read_for_you"]]
    failures = [{"description": each, "evidence": cited} for each in FAILURES]
    return "submit_diagnosis", {"stage": brief["head"]["stage"], "failures": failures, "advice": ADVICE}


def _generator(messages: list[Any]) -> tuple[str, dict[str, Any]]:
    candidates = [
        {"terms": terms, "beta": 1.0, "rationale": rationale, "forecast": forecast, "answer": ANSWERED}
        for terms, rationale, forecast in CANDIDATES
    ]
    return "submit_proposal", {"candidates": candidates}


def _validator(messages: list[Any]) -> tuple[str, dict[str, Any]]:
    results = [each["content"] for each in messages if each["role"] == "tool"]
    judged = [found for each in results if (found := re.search(r'"outcome": ?"(\w+)"', each))]
    if judged:
        confirmed = _confirmed(messages)
        return "submit_validation", {"candidate": confirmed, "outcome": judged[-1][1], "reading": READING}
    wanted = "c3" if not results else "c1"
    return "confirm", {"candidate": wanted, "reason": "It pays for bringing requested shelves to a goal."}


def _confirmed(messages: list[Any]) -> str:
    made = [call for each in messages if each["role"] == "assistant" for call in each.get("tool_calls") or ()]
    named = [json.loads(call["function"]["arguments"]) for call in made if call["function"]["name"] == "confirm"]
    return str(named[-1]["candidate"])


def _coordinator(messages: list[Any]) -> tuple[str, dict[str, Any]]:
    told = str(messages[-1]["content"])
    one, other = r'"candidate": ?"(c\d)"', r'"outcome": ?"pass"'
    passed = re.search(f"{one}[^{{}}]*{other}|{other}[^{{}}]*{one}", told)
    if passed is None:
        return "keep", {"reason": "No candidate passed."}
    candidate = passed[1] or passed[2]
    return "promote", {"candidate": candidate, "reason": f"{candidate} passed: deliveries are paid for."}


_SAYS = {"critic": _critic, "generator": _generator, "validator": _validator, "coordinator": _coordinator}
