"""A recorded round of a strong model on `rware-tiny-2ag-easy-v2`, played again: its words, and what branches scored.

Recorded over HTTP in November 2026 at version 0.1, under the gate of that version. Training is synthetic, and each
branch scores what was measured then. Adapted: the tools of screening and comparing are code today, so the Validator
confirms c2 at once and gives its reason; numbers that cite other evidence than today's are left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

from learning_signal.agents.session.session import run_session
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings
from learning_signal.tools.roles import ROLES
from tests.support.scripted_server import Reply, Request, calls, serving
from tests.support.session_helpers import Recorder
from tests.support.synthetic_training import InlinePool, train

STAGE_STEPS, SCREEN_STEPS, BRANCH_STEPS = 8_000, 4_000, 8_000
"""A rollout is 4,000 env steps: 8 environments of 500."""
SCREEN = {
    "control": [(0.0625, 0.05327), (0.09375, 0.06987)],
    "c1": [(1.297, 0.5626), (0.7188, 0.467)],
    "c2": [(0.3594, 0.6413), (0.125, 0.6978)],
    "c3": [(1.219, 0.6346), (1.469, 0.6548)],
}
CONFIRM = {
    "control": [(0.3906, 0.1849), (0.1562, 0.09914), (0.09375, 0.07118), (0.1562, 0.0959), (0.04688, 0.03489)],
    "c2": [(0.3438, 0.815), (0.1406, 0.7559), (0.0, 0.6903), (0.2344, 0.7922), (0.2344, 0.8508)],
}
"""(sparse return, progress) of each seed, as measured."""


def _terms(*terms: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"potential": potential, "weight": weight, "scope": "agent"} for potential, weight in terms]


CANDIDATES = (
    (
        _terms(("-(return_distance + pickup_distance + delivery_distance) / 20", 1.0)),
        "Moves left until the next delivery, in one number: it falls when a robot walks to a requested shelf, drops at "
        "the pick-up, falls on the way to the goal, and rises when it lifts a wrong shelf (return_distance).",
        {"measure": "progress", "change": 0.1, "probability": 0.75},
    ),
    (
        _terms(("holds_requested", 1.5), ("holds_unrequested", -0.5), ("pickup_distance", -0.06)),
        "A dense pull to requested shelves, a bonus for lifting one, and a price for lifting a wrong one.",
        {"measure": "progress", "change": 0.12, "probability": 0.8},
    ),
    (
        _terms(
            ("pickup_distance", -0.05),
            ("delivery_distance", -0.1),
            ("return_distance", -0.03),
            ("holds_unrequested", -0.5),
        ),
        "Weights delivery double, since it only starts to move after a pick-up; the price of a wrong shelf is "
        "explicit.",
        {"measure": "sparse_return", "change": 0.3, "probability": 0.7},
    ),
)
READING = (
    "c2 passes on progress. Caution: its sparse return is not higher than the control. c2 pays for lifting requested "
    "shelves and nothing for bringing them to a goal. c3 is the candidate that should be confirmed."
)
REASON = (
    "c2 passed on progress, so this is a stepping stone: robots now lift requested shelves; delivery must be paid for "
    "next."
)


def settings_in(folder: Path) -> SessionSettings:
    """The session, kept under ``folder``."""
    return SessionSettings(
        run=RunSettings(
            task="rware-tiny-2ag-easy-v2",
            learner=LearnerSettings(hidden=(8,), environments=8, epochs=1, minibatches=1),
            evaluation=EvaluationSettings(episodes=8, points=2),
        ),
        agents=dict.fromkeys(ROLES, "openai/gpt-4.1?temperature=0"),
        agent_sources=dict.fromkeys(ROLES, "command line"),
        deliberation=DeliberationSettings(candidates=3, refinements=0),
        gate=GateSettings(mode="paired"),
        rounds=1,
        stages=2,
        stage_steps=STAGE_STEPS,
        branch_steps=BRANCH_STEPS,
        workers=1,
        store=folder / "segments",
        ledger=folder / "ledger.db",
    )


class RecordedPool(InlinePool):
    """Branches score what they scored then; the main run is synthetic."""

    def __init__(self, store_root: Path) -> None:
        super().__init__(store_root)
        self._seen: dict[tuple[str, int], int] = {}

    def train_segment(self, spec: SegmentSpec, store: SegmentStore) -> SegmentResult:
        """The result of a segment."""
        result = train(spec, store)
        held_out = {each.set for each in result.evaluations} & {"screen", "confirm"}
        if spec.run.held_out_seed is None or not held_out:
            return result
        purpose = SCREEN if held_out == {"screen"} else CONFIRM
        arm = _arm(spec.shaping)
        position = self._seen[arm, id(purpose)] = self._seen.get((arm, id(purpose)), -1) + 1
        sparse, progress = purpose[arm][position]
        scored = tuple(
            each.model_copy(
                update={
                    "sparse_returns": (sparse,) * len(each.sparse_returns),
                    "progress": (progress,) * len(each.sparse_returns),
                }
            )
            for each in result.evaluations
        )
        result = result.model_copy(update={"evaluations": scored})
        (store.path(spec.id) / "result.json").write_text(result.model_dump_json())
        return result


def _arm(shaping: ShapingConfig) -> str:
    if shaping.is_none:
        return "control"
    potentials = [term.potential for term in shaping.terms]
    return next(f"c{n}" for n, (terms, *_) in enumerate(CANDIDATES, 1) if [t["potential"] for t in terms] == potentials)


async def answer(request: Request) -> Reply:
    """The strong model's reply to a request."""
    messages = request.body["messages"]
    role = re.search(r"You are the (\w+)", messages[0]["content"])[1].lower()
    turn = sum(message["role"] == "assistant" for message in messages)
    name, arguments = _SAYS[role](turn, messages)
    return calls([(f"call_{turn}", name, json.dumps(arguments))])


def _critic(turn: int, messages: list[Any]) -> tuple[str, dict[str, Any]]:
    brief = json.JSONDecoder().raw_decode(messages[1]["content"].partition("\n")[2])[0]
    cited = [each["result"]["evidence"] for each in brief["read_for_you"]]
    description = (
        "Agents lift whatever shelf they stand under. A robot with an unrequested shelf can no longer pass below "
        "shelves, so it is stuck."
    )
    advice = "Pull robots to requested shelves, and pay for bringing them to a goal."
    failures = [{"description": description, "evidence": cited}]
    return "submit_diagnosis", {"stage": brief["head"]["stage"], "failures": failures, "advice": advice}


def _generator(turn: int, messages: list[Any]) -> tuple[str, dict[str, Any]]:
    answered = "Signs and strengths are meant so: moves are counted in steps, and a pick-up must be worth the way."
    candidates = [
        {"terms": terms, "beta": 1.0, "rationale": rationale, "forecast": forecast, "answer": answered}
        for terms, rationale, forecast in CANDIDATES
    ]
    return "submit_proposal", {"candidates": candidates}


def _validator(turn: int, messages: list[Any]) -> tuple[str, dict[str, Any]]:
    judged = any('"outcome"' in each["content"] for each in messages if each["role"] == "tool")
    if not judged:
        return "confirm", {"candidate": "c2", "reason": "Its progress is the highest of the screen."}
    return "submit_validation", {"candidate": "c2", "outcome": "pass", "reading": READING}


def _coordinator(turn: int, messages: list[Any]) -> tuple[str, dict[str, Any]]:
    return "promote", {"candidate": "c2", "reason": REASON}


_SAYS = {"critic": _critic, "generator": _generator, "validator": _validator, "coordinator": _coordinator}


def play(folder: Path) -> Path:
    """Run the session in ``folder``; its ledger."""
    settings = settings_in(folder)

    async def session() -> None:
        async with serving(answer) as server:
            key = {"OPENAI_BASE_URL": server.address, "OPENAI_API_KEY": "a-key-of-no-server"}
            with mock.patch.dict(os.environ, key):
                await run_session(settings, observer=Recorder(), executor=RecordedPool(settings.store))

    asyncio.run(session())
    return settings.ledger
