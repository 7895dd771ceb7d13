"""Hand-made conversations with the rules backend: a small declared task, briefs, and a chat to play them in."""

from __future__ import annotations

import asyncio
import json

from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    SystemMessage,
    UserMessage,
)

from learning_signal.agents.rules import RulesClient
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks.base import Feature, TaskSpec
from learning_signal.tools.contracts import Diagnosis, ProposalDraft

TOOLS = {
    "critic": ("query_metrics", "summarize_trajectories", "preview_shaping", "submit_diagnosis"),
    "generator": ("query_metrics", "submit_proposal"),
    "validator": ("confirm", "extend_screen", "launch_branch", "read_branch", "query_metrics", "submit_validation"),
    "coordinator": ("query_metrics", "ask", "promote", "keep", "roll_back"),
}
ENDING = {"submit_diagnosis", "submit_proposal", "submit_validation", "promote", "keep", "roll_back"}
FEATURES = (
    Feature("gap", "Sum of distances.", "team", 0.0, 9.0, "lower"),
    Feature("filled", "Share that is filled.", "team", 0.0, 1.0, "higher"),
    Feature("bumps", "Number of bumps.", "team", 0.0, 3.0, "lower"),
    Feature("width", "Mean distance between agents.", "team", 0.0, 3.0, None),
    Feature("own gap", "Distance of the agent.", "agent", 0.0, 3.0, "lower"),
    Feature("reach", "How far the agent reaches.", "agent", 0.0, 4.0, "higher"),
)
OBSERVED = {
    "gap": (2.6, 2.4, 2.5, 0.8, -0.55),
    "filled": (0.04, 0.05, 0.04, 0.12, 0.99),
    "bumps": (0.1, 0.1, 0.05, 0.2, 0.02),
    "width": (1.0, 1.1, 1.0, 0.4, 0.6),
    "own gap": (0.9, 0.8, 0.85, 0.4, -0.3),
    "reach": (1.0, 1.1, 1.05, 0.5, 0.35),
}
"""Mean at start and end, mean, standard deviation, correlation with progress."""


GATE = {"floor": 0.5, "delta": 0.05, "delta_progress": 0.005}
LEARNER = {"algorithm": "mappo", "largest_entropy": 1.609}


def task(features=FEATURES) -> TaskSpec:
    return TaskSpec("t", "d", "r", 3, 8, 8, 5, ("a", "b", "c", "d", "e"), 0, 25, 25.0, tuple(features), "share")


def behaviour(features=FEATURES, observed=OBSERVED, **changes):
    """A trajectory summary, as the tool returns it."""
    rows = []
    for one in features:
        start, end, mean, deviation, rho = observed[one.name]
        rows.append(
            {
                "name": one.name,
                "scope": one.scope,
                "low": one.low,
                "high": one.high,
                "direction": one.direction,
                "over_time": [start, mean, mean, mean, end],
                "mean": mean,
                "standard_deviation": deviation,
                "with_return": [None, None],
                "with_progress": [rho, rho / 2],
            }
        )
    shares = ({"a": 0.12, "b": 0.88, "c": 0.0, "d": 0.0, "e": 0.0},) * 3
    actions = {"shares": shares, "idle": [0.12] * 3, "oscillation": [0.4] * 3, "role_difference": 0.002}
    return {
        "task": "t",
        "episodes": 256,
        "mean_steps": 25.0,
        "ended_early": 0.0,
        "features": rows,
        "actions": actions,
    } | changes


def head(shaping=None, stage="exploring", sparse=0.0, progress=0.04):
    shaping = shaping or ShapingConfig.none()
    return {
        "env_steps": 200_000,
        "stage": stage,
        "sparse_return": sparse,
        "progress": progress,
        "shaping": shaping.model_dump(mode="json"),
    }


def declared(features=FEATURES):
    return [vars(one) | {} for one in features]


def critic_brief(**changes):
    return {
        "round": 1,
        "rounds_left": 2,
        "task": {"name": "t", "max_return": 25.0},
        "learner": LEARNER,
        "features": declared(),
        "head": head(),
        "history": [],
        "lengths": {"branch_steps": 150_000, "stage_steps": 200_000, "evidence_tokens": 2000},
        "gate": GATE,
    } | changes


def generator_brief(features=FEATURES, **changes):
    evidence = changes.get("evidence") if "evidence" in changes else behaviour(features)
    return {
        "round": 1,
        "refinement": 0,
        "candidates_wanted": 3,
        "task": {"name": "t", "max_return": 25.0, "progress": "share"},
        "features": declared(features),
        "head": head(),
        "lengths": {"branch_steps": 150_000},
        "gate": GATE,
        "good_rise": 2.0,
        "diagnosis": {"critic_says": {"stage": "exploring", "failures": [], "advice": "Shape something."}},
        "tried": [],
        "feedback": None,
        "limits": {"terms": 8, "weight": 10, "beta": 10},
        "evidence": evidence,
    } | changes


def screen(chosen="c2", failed=(), **gains):
    """A screen as a brief tells it; ``gains``: the differences of candidates, best first."""
    gains = gains or {"c2": 1.0, "c3": 0.4, "c1": 0.1}
    compared = {name: gain for name, gain in gains.items() if name not in failed}
    rows = [{"candidate": name, "difference": gain, "sparse_return_gain": gain} for name, gain in compared.items()]
    note = "has no sparse return for seed 1 of 1 (worker died)"
    rows += [{"candidate": name, "difference": None, "note": note} for name in failed]
    return {
        "comparison": "C1",
        "measure": "sparse_return",
        "control": {"branch": "B1", "sparse_return": [0.2], "progress": [0.1]},
        "ranking": rows,
        "chosen": chosen,
        "confirmable": list(compared) if chosen else [],
    }


def confirmed(candidate="c2", outcome="pass", **changes):
    """What ``confirm`` answers."""

    def arm(*values):
        shares = [value / 10 for value in values]
        return {
            name: {"branches": column, "mean": sum(column) / len(column)}
            for name, column in (("sparse_return", list(values)), ("progress", shares))
        }

    return {
        "comparison": "C2",
        "candidate": candidate,
        "outcome": outcome,
        "reason": "because",
        "measure": "sparse_return",
        "difference": 1.05,
        "interval": [0.8, 1.3],
        "interval_level": 0.98,
        "p": 0.004,
        "level": 0.0125,
        "smallest_p": {"at_this_look": 0.004, "in_all": 0.004},
        "wins": "4 of 4 pairs of branches",
        "n": 2,
        "values": {"control": arm(1.0, 1.1), "candidate": arm(2.0, 2.2)},
        "after_this": {"confirmations_left": 1, "confirmable": []},
    } | changes


def validator_brief(**changes):
    candidates = [{"name": name, "shaping": {}, "shaping_text": "x"} for name in ("c1", "c2", "c3")]
    return {
        "round": 1,
        "refinement": 0,
        "candidates": candidates,
        "screens": [screen()],
        "extend_screen": {"seeds_left": 2, "env_steps_per_branch": 75_000},
        "branch_steps": 150_000,
    } | changes


def coordinator_brief(**changes):
    verdict = {
        "refinement": 0,
        "candidate": "c2",
        "outcome": "pass",
        "measure": "sparse_return",
        "reason": "pass on sparse return: mean difference +0.8, p = 0.03125",
        "reading": "fine",
        "p": 0.03125,
        "difference": 0.8,
        "level": 0.05,
    }
    return {
        "round": 1,
        "diagnosis": {},
        "proposals": [],
        "verdicts": [verdict],
        "probation": None,
        "allowed": ["promote", "keep"],
        "promotable": "c2",
        "questions_left": 3,
    } | changes


def refusal(sentence: str, **fields) -> str:
    """A tool's refusal, as ``ToolWorkbench`` words it."""
    return f"ERROR: {sentence}" + ("\n" + json.dumps(fields) if fields else "")


class Chat:
    """A phase with one role: what it is asked, what it does, and what the test answers.

    The facts of the session are in ``system`` or beside what else the brief holds.
    """

    def __init__(self, role, brief, system=None):
        self.role, self.client = role, RulesClient(role)
        self.messages = [SystemMessage(content=system or f"You are the {role}.")]
        if brief is not None:
            self.messages.append(UserMessage(content="Do it.\n" + json.dumps(brief), source="session"))

    def ask(self):
        """The next reply: text, or calls as (name, arguments)."""
        tools = [{"name": name, "description": "", "parameters": {}} for name in TOOLS[self.role]]
        self.result = asyncio.run(self.client.create(self.messages, tools=tools))
        content = self.result.content
        self.messages.append(AssistantMessage(content=content, thought=self.result.thought, source=self.role))
        return content if isinstance(content, str) else [(call.name, json.loads(call.arguments)) for call in content]

    def reply(self, *results):
        """Answer the calls of the last reply, in order."""
        calls = self.messages[-1].content
        assert len(results) == len(calls)
        texts = [one if isinstance(one, str) else json.dumps(one) for one in results]
        self.messages.append(
            FunctionExecutionResultMessage(
                content=[
                    FunctionExecutionResult(
                        content=text, name=call.name, call_id=call.id, is_error=text.startswith("ERROR")
                    )
                    for text, call in zip(texts, calls, strict=True)
                ]
            )
        )

    def question(self, text):
        messages = [*self.messages, UserMessage(content=text, source="coordinator")]
        return asyncio.run(self.client.create(messages)).content


def candidates_of(brief):
    """The candidates a generator proposes at once, checked against the contract."""
    [(name, arguments)] = Chat("generator", brief).ask()
    assert name == "submit_proposal"
    return ProposalDraft.model_validate(arguments).candidates


def diagnose(brief, metrics=None, summary=None):
    chat = Chat("critic", brief)
    calls = chat.ask()
    assert [name for name, _ in calls] == ["query_metrics", "summarize_trajectories"]
    listing = {"evidence": "E1", "metrics": {"sparse_return": "x", "evaluation_progress": "x", "entropy": "x"}}
    chat.reply(listing, summary or {"evidence": "E2", "summary": behaviour()})
    [(name, arguments)] = chat.ask()
    assert name == "query_metrics" and set(arguments["names"]) == {"sparse_return", "evaluation_progress", "entropy"}
    chat.reply(metrics or {"evidence": "E3", "points": {"entropy": [1.6, 1.59]}})
    [(name, arguments)] = chat.ask()
    assert name == "submit_diagnosis"
    return chat, Diagnosis.model_validate(arguments)
