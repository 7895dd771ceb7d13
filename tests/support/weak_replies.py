"""Weak replies of a model and the end that each must come to, played in a whole session over real HTTP.

A case is one agent behind a scripted server; the other agents are rules, and training is synthetic. ``run_case`` plays
it: the tests assert the end, a table of the bench may print it.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings, session_rules
from learning_signal.tools.roles import Role
from tests.support import scripted_server as wire
from tests.support.scripted_server import Reply, call, calls, serving, text
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

End = Literal["understood", "recovered", "goes on", "taken over"]
"""understood: the weak reply did what was meant. recovered: the agent did so within two turns after it. goes on: the
agent gave up, and the round went on without it. taken over: the fallback of its backend finished the phase."""
STEPS = 5
"""Steps of a phase in these sessions."""


@dataclass(frozen=True)
class Case:
    """One kind of weak reply."""

    name: str
    role: Role
    replies: tuple[Reply, ...]
    """What the server answers, in order; the last one again and again."""
    end: End
    weak: int = 0
    """Which of the replies is the weak one, from 0."""
    told: str = ""
    """Words that the agent, or the log, must be told."""
    action: str = "promote"
    """How the round must end: nothing here may void what the others found."""
    parameters: str = ""
    """More parameters of the backend's spec."""


@dataclass(frozen=True)
class Ending:
    """What came of a case."""

    status: str
    """Of the session."""
    end: End | Literal["lost"]
    """lost: none of the ends that a case may have."""
    turns: int
    """Turns of the agent after the weak reply until its phase was over."""
    action: str
    """The decision of the round."""
    said: str
    """All that the agent was told, and every line of the log."""
    sound: bool
    """Whether every hash and statistic of the log is as computed anew."""


def problems(case: Case, ending: Ending) -> list[str]:
    """What of an ending is not as its case demands; empty where it holds."""
    most = {"recovered": 2, "understood": 0}.get(case.end)
    checks = {
        f"the session is {ending.status}": ending.status == "done",
        f"it came to: {ending.end}": ending.end == case.end,
        f"the round ended with {ending.action}": ending.action == case.action,
        f"nobody was told {case.told!r}": case.told in ending.said,
        "the log is not sound": ending.sound,
        f"it took {ending.turns} turns": most is None or ending.turns <= most,
    }
    return [words for words, holds in checks.items() if not holds]


def run_case(case: Case) -> Ending:
    """Play a case in a folder of its own, to the end of its session."""
    with tempfile.TemporaryDirectory() as folder, _key():
        settings = tiny_settings(
            Path(folder), deliberation=DeliberationSettings(candidates=2, refinements=0, steps=STEPS)
        )
        return asyncio.run(_played(case, settings))


async def _played(case: Case, settings: SessionSettings) -> Ending:
    async with serving(*case.replies) as server:
        spec = f"openai-api/weak@{server.address}?attempts=1&api_key_env=WEAK_API_KEY{case.parameters}"
        settings = settings.model_copy(update={"agents": settings.agents | {case.role: spec}})
        outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
    requests = [message for request in server.requests for message in request.body["messages"]]
    with Reader.open(settings.ledger) as reader:
        return _ending(case, reader, outcome.status, requests)


def _ending(case: Case, reader: Reader, status: str, messages: list[Mapping[str, Any]]) -> Ending:
    events = reader.events()
    own = [each for each in events if each.agent == case.role]
    asked = [each for each in own if each.kind == "llm_call" and "weak@" in _spec_of(reader, each)]
    over = next((each for each in own if each.kind in ("diagnosis", "proposal", "verdict", "decision")), None)
    trouble = next((each for each in own if each.kind in ("error", "fallback")), None)
    last = len(asked) if over is None else sum(each.seq < over.seq for each in asked)
    turns = max(last - 1 - case.weak, 0)
    end: End | Literal["lost"] = "lost"
    if trouble is not None:
        end = "taken over" if trouble.kind == "fallback" else "goes on"
    elif over is not None and turns <= 2:
        end = "recovered" if turns else "understood"
    said = [str(each.get("content")) for each in messages] + [each.title for each in events]
    decisions = reader.decisions()
    return Ending(
        status=status,
        end=end,
        turns=turns,
        action=decisions[0].action if decisions else "none",
        said="\n".join(said),
        sound=verify(reader, recompute, session_rules) == [],
    )


def _spec_of(reader: Reader, event: Any) -> str:
    rows = reader.rows("SELECT spec FROM llm_calls WHERE event_seq = ?", (event.seq,))
    return rows[0]["spec"] if rows else ""


@contextmanager
def _key() -> Iterator[None]:
    before = os.environ.get("WEAK_API_KEY")
    os.environ["WEAK_API_KEY"] = "sk-no-key-at-all-0123456789"
    try:
        yield
    finally:
        if before is None:
            del os.environ["WEAK_API_KEY"]


# what is written -------------------------------------------------------------------------------------------------

LOOK = {"names": ["entropy"]}
DIAGNOSIS = {
    "stage": "exploring",
    "failures": [{"description": "Nobody comes near a landmark.", "evidence": ["E3"]}],
    "advice": "Reward coverage.",
}


def candidate(potential: str = "coverage_distance", **changes: Any) -> dict[str, Any]:
    """A candidate that helps, as every shaping does in synthetic training."""
    forecast = {"measure": "progress", "change": 0.05, "probability": 0.7}
    term = {"potential": potential, "weight": -1.0, "scope": "team"}
    return {"terms": [term], "beta": 1.0, "rationale": "Agents come closer.", "forecast": forecast} | changes


TERM = candidate()["terms"][0]
PROPOSAL = {"candidates": [candidate(), candidate("worst_coverage_distance")]}
PROMOTION = {"candidate": "c1", "reason": "It passed with 16 of 16 pairs."}


def named(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as most models write it in text."""
    return json.dumps({"name": name, "arguments": arguments})


def submits(name: str, arguments: Any) -> Reply:
    """A call as it should be."""
    return call(name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def proposing(first: Mapping[str, Any]) -> Reply:
    """A proposal whose first candidate is ``first``."""
    return submits("submit_proposal", {"candidates": [first, PROPOSAL["candidates"][1]]})


SEES, DIAGNOSES = submits("query_metrics", LOOK), submits("submit_diagnosis", DIAGNOSIS)
PROPOSES, PROMOTES = submits("submit_proposal", PROPOSAL), submits("promote", PROMOTION)


def together(*made: tuple[str, dict[str, Any]]) -> Reply:
    """Several calls in one reply."""
    return calls([(f"call_{n}", name, json.dumps(arguments)) for n, (name, arguments) in enumerate(made)])


EXTENDS = ("extend_screen", {"candidates": ["c1", "c2"], "reason": "They are close."})
CONFIRMS = ("confirm", {"candidate": "c1"})
VALIDATES = submits("submit_validation", {"candidate": "c1", "outcome": "pass", "reading": "All pairs are won."})


def _as_text() -> Iterator[Case]:
    """A diagnosis written as text, in the forms of common templates."""
    arguments = json.dumps(DIAGNOSIS)
    written = {
        "Hermes tags": f"<tool_call>\n{named('submit_diagnosis', DIAGNOSIS)}\n</tool_call>",
        "tags left open": f"<tool_call>{named('submit_diagnosis', DIAGNOSIS)}",
        "fenced JSON after reasoning": f"<think>So?</think>Here:\n```json\n{named('submit_diagnosis', DIAGNOSIS)}\n```",
        "bare JSON": named("submit_diagnosis", DIAGNOSIS),
        "JSON as OpenAI sends it": json.dumps({"tool_calls": [{"function": json.loads(named("submit_diagnosis", {})) | {
            "arguments": arguments}}]}),
        "Mistral's tags": f"[TOOL_CALLS][{named('submit_diagnosis', DIAGNOSIS)}]",
        "Llama's tags": f"<function=submit_diagnosis>{arguments}</function>",
        "ReAct": f"Thought: clear.\nAction: submit_diagnosis\nAction Input: {arguments}",
        "a function's syntax": f"submit_diagnosis({arguments})",
        "a call inside reasoning": f"<think>Clear.\n<tool_call>{named('submit_diagnosis', DIAGNOSIS)}</tool_call>",
    }  # fmt: skip
    for form, body in written.items():
        yield Case(f"text: {form}", "critic", (SEES, text(body)), "understood", 1, "understood from text")
    retired = text(None, function_call={"name": "submit_diagnosis", "arguments": arguments})
    yield Case("the retired function_call", "critic", (SEES, retired), "understood", 1)


def _arguments() -> Iterator[Case]:
    """Arguments in another form, and wrong ones."""
    forecast = candidate()["forecast"]
    taken = {
        "numbers as strings": proposing(candidate(beta="1.0", terms=[TERM | {"weight": "-1.0"}])),
        "all candidates inside a string": submits(
            "submit_proposal", {"candidates": json.dumps(PROPOSAL["candidates"])}
        ),
        "one candidate and no list": submits("submit_proposal", {"candidates": candidate()}),
        "arguments inside arguments": submits("submit_proposal", {"arguments": PROPOSAL}),
        "Python's notation": submits("submit_proposal", str(PROPOSAL)),
        "a choice in capitals": proposing(candidate(terms=[TERM | {"scope": "TEAM"}])),
    }
    for form, reply in taken.items():
        yield Case(f"arguments: {form}", "generator", (reply,), "understood")
    wrong = {
        "feature for potential": (
            candidate(terms=[{"feature": "coverage_distance", "weight": -1, "scope": "team"}]),
            "candidate 1 (of 2), term 1 (of 1), feature: unknown field (did you mean potential?)",
        ),
        "a weight in words": (candidate(terms=[TERM | {"weight": "strong"}]), 'weight: must be a number, not "strong"'),
        "a feature that is none": (candidate("happiness"), "candidate 1 (of 2)"),
        "a forecast in words": (candidate(forecast="better"), "must be an object with the fields measure, change"),
        "no measure": (candidate(forecast=forecast | {"measure": None}), "measure: must be one of sparse_return"),
    }
    for form, (first, told) in wrong.items():
        yield Case(f"arguments: {form}", "generator", (proposing(first), PROPOSES), "recovered", 0, told)
    broken = submits("submit_proposal", '{"candidates": [{"terms": ')
    yield Case("arguments: broken JSON", "generator", (broken, PROPOSES), "recovered", 0, "not valid JSON")


def _without_a_call() -> Iterator[Case]:
    """Replies that call nothing, and what is said to each."""
    unnamed, both = json.dumps(DIAGNOSIS), named("keep", {"reason": "x"}) + " or " + named("promote", PROMOTION)
    cases = {
        "prose": (text("Let me look at the entropy first."), "Your reply calls no tool"),
        "a question": (text("Shall I go on?"), "asks a question, which nobody answers"),
        "arguments without a name": (text(unnamed), "holds arguments of submit_diagnosis as text, without the name"),
        "an unknown tool in text": (
            text(named("diagnose", DIAGNOSIS)),
            "a call of 'diagnose' as text, which is no tool",
        ),
        "broken JSON in text": (text(named("submit_diagnosis", DIAGNOSIS)[:-9]), "as text that is no valid JSON"),
        "nothing": (text(""), "was empty, or nothing but reasoning"),
        "reasoning alone": (text("<think>Hm.</think>"), "was empty, or nothing but reasoning"),
        "a reply cut at the limit": (text("Well", finish="length"), "was cut at the token limit"),
        "a call that Ollama cannot read": (
            wire.error(500, "error parsing tool call: raw='{\"stage\": ', err=unexpected end of JSON input"),
            "could not be read: write them as one short and valid",
        ),
        "a call that Groq cannot read": (
            wire.error(400, "Failed to call a function. Please adjust your prompt.", "tool_use_failed"),
            "could not be read: write them as one short and valid",
        ),
        "arguments without an end": (submits("submit_diagnosis", '{"advice": "' + "a" * 100_000), "could not be read"),
        "an unknown tool": (submits("diagnose", DIAGNOSIS), "there is no tool 'diagnose'"),
    }
    for form, (reply, told) in cases.items():
        yield Case(form, "critic", (SEES, reply, DIAGNOSES), "recovered", 1, told)
    yield Case("two decisions in one text", "coordinator", (text(both), PROMOTES), "recovered", 0, "not certain which")
    refuses = wire.error(400, "tool_choice required is not supported")
    yield Case(
        "prose on a server without tool_choice", "critic",
        (SEES, text("Hm."), refuses, DIAGNOSES), "recovered", 1, "tool_choice required is not supported",
    )  # fmt: skip


def _on_the_way() -> Iterator[Case]:
    """Calls that are refused by what they say, or made twice."""
    at_once = together(("query_metrics", LOOK), ("submit_diagnosis", DIAGNOSIS))
    yield Case("cites what it has not read", "critic", (at_once, DIAGNOSES), "recovered", 0, "not among the results")
    yield Case("looks twice at the same", "critic", (SEES, SEES, DIAGNOSES), "recovered", 1, '"same_as": "E3"')
    nobody = submits("promote", PROMOTION | {"candidate": "c9"})
    yield Case("promotes nobody", "coordinator", (nobody, PROMOTES), "recovered", 0, "expected 'c1' with a passing")
    strange = together(("confirm", {"candidate": "c9"}), CONFIRMS)
    yield Case("confirms nobody first", "validator", (strange, VALIDATES), "recovered", 0, "c9")
    wrong = submits("submit_validation", {"candidate": "c2", "outcome": "fail", "reading": "Not sure."})
    yield Case(
        "another verdict than computed",
        "validator",
        (together(CONFIRMS), wrong, VALIDATES),
        "recovered",
        1,
        "computed verdict",
    )


def _for_ever() -> Iterator[Case]:
    """Agents that never end their phase: the round goes on without each of them."""
    hm, same = text("Hm."), "3 times"
    thoughts = tuple(text(f"Let me think about it {n} times.") for n in range(STEPS))
    yield Case("the same call for ever", "critic", (SEES,), "goes on", 0, f"and the same result (E3) {same}")
    yield Case("the same prose for ever", "critic", (hm,), "goes on", 0, "goes on without a diagnosis")
    yield Case("other prose for ever", "critic", thoughts, "goes on", 0, f"did not finish within {STEPS} steps")
    yield Case("nothing for ever", "critic", (text(""),), "goes on", 0, same)
    refused = proposing(candidate("happiness"))
    yield Case("the same refused proposal", "generator", (refused,), "goes on", 0, "the shaping is kept", "keep")
    judged = "code runs and judges what is left to confirm"
    yield Case("prose in place of a validation", "validator", (hm,), "goes on", 0, judged)
    looped = (together(EXTENDS), submits("query_metrics", LOOK))
    yield Case("extends the screen and then loops", "validator", looped, "goes on", 1, judged)
    unread = (together(CONFIRMS), hm)
    yield Case("confirms and then stops", "validator", unread, "goes on", 1, judged)
    yield Case("never decides", "coordinator", (hm,), "goes on", 0, "the shaping is kept", "keep")


def _with_a_fallback() -> Iterator[Case]:
    """Agents whose backends name a fallback."""
    gone = wire.error(404, "model 'weak' not found")
    roles: tuple[Role, ...] = ("critic", "generator", "validator", "coordinator")
    for role in roles:
        yield Case(
            f"a fallback for the {role}", role, (text("Hm."),), "taken over", 0, "rules takes over",
            parameters="&fallback=rules",
        )  # fmt: skip
    yield Case(
        "a fallback for a model that is gone", "generator", (gone,), "taken over", 0, "has no backend",
        parameters="&fallback=rules",
    )  # fmt: skip


def _cases() -> tuple[Case, ...]:
    groups = (_as_text, _arguments, _without_a_call, _on_the_way, _for_ever, _with_a_fallback)
    return tuple(case for group in groups for case in group())


CASES = _cases()
"""Every case; names differ."""
