"""A scripted strong model: it plays the part that a real one played in a recorded session, with the tools of today.

``strong_session.json`` has the recorded calls and words (Foraging-10x10-3p-3f-v3, one round, 13 answers). What is
adapted, because tools have changed or an answer depends on what this session measured:

* Critic, turn 1: all three recorded calls (the list of metrics, a summary, the usual metrics) asked for what now stands
  in the brief: skipped.
* Critic, turn 2: both recorded calls were answers to refusals that are gone (a metric ``kl``, a summary too long to be
  had). In their place it looks at an episode; the uses of actions, which it asked for until they stood in the
  brief, are skipped.
* Critic, turn 3: it narrows the window, as recorded. What made it do so, the metrics, now stands in the brief, and
  so it asks in the same turn as for the episode.
* Generator: submits at once, as recorded. (Earlier versions of this file had it look at its candidates with
  ``preview_shaping`` first, which the recorded model could not; code checks what is submitted in any case.)
* Validator: screening is code, and ``confirm`` launches and compares. All three recorded looks after that (metrics of
  the control, metrics and behaviour of the candidate) asked for what now stands in the answer of ``confirm``: skipped.
* Coordinator: it asked for the screen's results of two candidates, because its brief had none. They now stand in it:
  skipped.
* Windows, stage, candidate and outcome are those of this session. Numbers in failures and advice, which code would look
  up in the evidence of this session, are replaced by words.
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
    if turn == 0:
        said, narrowed = _turn("critic", 2)
        half = _brief(messages)["head"]["env_steps"] // 2
        looks: list[Call] = [("show_episode", {"which": "rewarded"})] if "show_episode" in offered else []
        return said, looks + [(name, arguments | {"first_env_step": half}) for name, arguments in narrowed]
    recorded = _turn("critic", 3)
    (name, arguments), *_ = recorded[1]
    cited = _evidence(messages)
    failures = [
        {"description": _NUMBER.sub(CITED, failure["description"]), "evidence": cited}
        for failure in arguments["failures"]
    ]
    said = {"failures": failures, "advice": _NUMBER.sub(CITED, arguments["advice"])}
    return recorded[0], [(name, arguments | {"stage": _brief(messages)["head"]["stage"]} | said)]


def _generator(turn: int, messages: Sequence[Any], offered: set[str]) -> tuple[str | None, list[Call]]:
    return _turn("generator", 0)


def _validator(turn: int, messages: Sequence[Any], offered: set[str]) -> tuple[str | None, list[Call]]:
    chosen = _brief(messages)["screens"][-1]["chosen"]
    judged = next((one for one in _results(messages) if "outcome" in one), None)
    if turn == 0 and chosen is not None:
        return "I confirm the ranking's first.", [("confirm", {"candidate": chosen})]
    (name, arguments), *_ = _turn("validator", 4)[1]
    verdict = {"candidate": None, "outcome": "inconclusive"}
    if judged is not None:
        verdict = {each: judged[each] for each in verdict}
    return None, [(name, arguments | verdict)]


def _coordinator(turn: int, messages: Sequence[Any], offered: set[str]) -> tuple[str | None, list[Call]]:
    brief = _brief(messages)
    if turn == 0 and "screens" not in brief:
        return _turn("coordinator", 0)
    (name, arguments), *_ = _turn("coordinator", 1)[1]
    if "promotable" not in brief:
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
    """The ids of what was read, in the brief and since."""
    before = [one["result"] for one in _brief(messages).get("read_for_you", ())]
    return [one["evidence"] for one in (*before, *_results(messages)) if "evidence" in one]
