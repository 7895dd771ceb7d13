"""A scripted strong model: it plays the part that a real one played in a recorded session, with the tools of today.

``strong_session.json`` has the recorded calls and words (Foraging-10x10-3p-3f-v3, one round, 13 answers). What is
adapted, because tools have changed or an answer depends on what this session measured:

* Critic, turn 2: both recorded calls were answers to refusals that are gone (a metric ``kl``, a summary too long to be
  had). In their place are the uses of actions and an episode.
* Generator: looks at its candidates with ``preview_shaping`` before it submits them.
* Validator: screening is code, and ``confirm`` launches and compares. It reads the same three results as before.
* Windows, stage, candidate and outcome are those of this session. Numbers in failures, which code would look up in the
  evidence of this session, are replaced by words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.scripted_server import Reply, Request, calls, text

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("strong_session.json").read_text(encoding="utf-8"))
Call = tuple[str, dict[str, Any]]

CITED = "(as cited)"
"""In place of a number of the recorded diagnosis: about as many tokens."""
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")


async def answer(request: Request) -> Reply:
    """The strong model's reply to a request; a function of the request alone."""
    messages = request.body["messages"]
    role = re.search(r"You are the (\w+)", messages[0]["content"])[1].lower()
    if not request.body.get("tools"):
        return text(RECORDED["answer"], usage=None)
    turn = sum(message["role"] == "assistant" for message in messages)
    offered = {tool["function"]["name"] for tool in request.body["tools"]}
    said, wanted = _PARTS[role](turn, messages, offered)
    made = [(f"call_{turn}_{place}", name, json.dumps(arguments)) for place, (name, arguments) in enumerate(wanted)]
    return calls(made, content=said, usage=None)


def _critic(turn: int, messages: Sequence[Any], offered: set[str]) -> tuple[str | None, list[Call]]:
    recorded = _turn("critic", min(turn, 3))
    if turn == 1:
        looks: list[Call] = [
            ("summarize_trajectories", {"parts": ["action_use"]}),
            ("show_episode", {"which": "rewarded"}),
        ]
        return recorded[0], [look for look in looks if look[0] in offered]
    if turn == 2:
        half = _brief(messages)["head"]["env_steps"] // 2
        return recorded[0], [(name, arguments | {"first_env_step": half}) for name, arguments in recorded[1]]
    if turn < 3:
        return recorded
    (name, arguments), *_ = recorded[1]
    cited = _evidence(messages)
    failures = [
        {"description": _NUMBER.sub(CITED, failure["description"]), "evidence": cited}
        for failure in arguments["failures"]
    ]
    return recorded[0], [(name, arguments | {"stage": _brief(messages)["head"]["stage"], "failures": failures})]


def _generator(turn: int, messages: Sequence[Any], offered: set[str]) -> tuple[str | None, list[Call]]:
    said, (submission, *_) = _turn("generator", 0)
    if turn == 0 and "preview_shaping" in offered:
        shapings = [{name: draft[name] for name in ("terms", "beta")} for draft in submission[1]["candidates"]]
        return said, [("preview_shaping", {"candidates": shapings})]
    return None, [submission]


def _validator(turn: int, messages: Sequence[Any], offered: set[str]) -> tuple[str | None, list[Call]]:
    chosen = _brief(messages)["screens"][-1]["chosen"]
    judged = next((one for one in _results(messages) if "outcome" in one), None)
    if turn == 0 and chosen is not None:
        return "I confirm the ranking's first.", [("confirm", {"candidate": chosen})]
    if turn == 1 and judged is not None:
        control, candidate = (judged["values"][arm]["branch"] for arm in ("control", "candidate"))
        looks = zip(_turn("validator", 3)[1], (control, candidate, candidate), strict=True)
        return None, [(name, arguments | {"source": branch}) for (name, arguments), branch in looks]
    (name, arguments), *_ = _turn("validator", 4)[1]
    verdict = {"candidate": None, "outcome": "inconclusive"}
    if judged is not None:
        verdict = {each: judged[each] for each in verdict}
    return None, [(name, arguments | verdict)]


def _coordinator(turn: int, messages: Sequence[Any], offered: set[str]) -> tuple[str | None, list[Call]]:
    if turn == 0:
        return _turn("coordinator", 0)
    brief = _brief(messages)
    (name, arguments), *_ = _turn("coordinator", 1)[1]
    if brief["promotable"] is None:
        return None, [("keep", {"reason": arguments["reason"]})]
    return None, [(name, arguments | {"candidate": brief["promotable"]})]


_PARTS = {"critic": _critic, "generator": _generator, "validator": _validator, "coordinator": _coordinator}


def _turn(role: str, turn: int) -> tuple[str | None, list[Call]]:
    recorded = RECORDED[role][turn]
    return recorded["says"], [(name, arguments) for name, arguments in recorded["calls"]]


def _brief(messages: Sequence[Any]) -> dict[str, Any]:
    return json.JSONDecoder().raw_decode(messages[1]["content"].partition("\n")[2])[0]


def _results(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The JSON objects that tools answered."""
    for message in messages:
        if message["role"] == "tool" and message["content"].startswith("{"):
            yield json.JSONDecoder().raw_decode(message["content"])[0]


def _evidence(messages: Sequence[Any]) -> list[str]:
    """The ids of what was read."""
    return [one["evidence"] for one in _results(messages) if "evidence" in one]
