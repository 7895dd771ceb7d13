"""Sessions on llama.cpp's own server: a model of random weights calls the tools well-formed, with arbitrary content.

Whatever it says, a round ends kept or honestly promoted. What the model did is printed (``pytest -s``).
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from learning_signal.agents.model.errors import OF_THE_MODEL
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.trial import check
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import DeliberationSettings, session_rules
from learning_signal.tools.roles import ROLES
from tests.support.llama_server import llama_server
from tests.support.session_helpers import run_inline, tiny_settings

PACKAGES = ("gguf", "xllamacpp")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("llama server"),
    pytest.mark.skipif(
        "CI" not in os.environ and any(importlib.util.find_spec(package) is None for package in PACKAGES),
        reason=f"needs {' and '.join(PACKAGES)}: pip install -e '.[dev]'",
    ),
]
STEPS = 5


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with llama_server(tmp_path_factory.mktemp("llama")) as address:
        yield address


def spec_of(address: str, **parameters: int) -> str:
    given = {"max_tokens": 300, "attempts": 1} | parameters
    return f"openai-api/tiny@{address}?{'&'.join(f'{name}={value}' for name, value in given.items())}"


def test_the_check_of_a_backend_reaches_it_and_sees_tool_calls(address):
    """About one reply in five is text: of four seeds at least one calls the tool."""
    results = [asyncio.run(check(parse_spec(spec_of(address, seed=seed)))) for seed in range(4)]

    assert any(result.ok for result in results), [result.sentence for result in results]
    assert all(result.model_served for result in results if result.ok)


def test_rounds_end_whatever_the_model_says(address, tmp_path):
    """With all agents on the model, then with each alone, so that it meets every tool."""
    tried: Counter[tuple[str, str]] = Counter()
    for roles in (ROLES, *((role,) for role in ROLES[1:])):
        folder = tmp_path / roles[0]
        folder.mkdir()
        tried += play(spec_of(address), folder, roles)

    assert tried.total() >= 10, "the model hardly called a tool: it tests nothing"


def play(spec: str, folder: Path, roles: Sequence[str]) -> Counter[tuple[str, str]]:
    """A session with the model behind ``roles``; how often it made each call with which status."""
    talk = DeliberationSettings(candidates=2, refinements=1, steps=STEPS, branch_tools=True)
    agents = dict.fromkeys(ROLES, "rules") | dict.fromkeys(roles, spec)

    outcome = run_inline(tiny_settings(folder, agents=agents, deliberation=talk))

    assert (outcome.status, outcome.stop_reason) == ("done", None)
    with Reader.open(folder / "ledger.db") as reader:
        (decision,) = reader.decisions()
        passed = {each.candidate_id for each in reader.verdicts() if each.outcome == "pass"}
        calls = reader.rows("SELECT * FROM llm_calls WHERE spec = ?", (spec,))
        rows = reader.rows("SELECT name, status, agent FROM tool_calls")
        problems = verify(reader, recompute, session_rules)
    assert decision.action == "keep" or decision.action == "promote" and decision.candidate_id in passed
    assert not problems
    assert {call["error_kind"] for call in calls} <= {None, *OF_THE_MODEL}
    tools = Counter((row["name"], row["status"]) for row in rows if row["agent"] in roles)
    told = ", ".join(f"{name} {status} {n}" for (name, status), n in sorted(tools.items()))
    print(f"\n{' '.join(roles)}: {_speed(calls)}; {decision.action}; {told}")
    return tools


def _speed(calls: Sequence[Mapping[str, Any]]) -> str:
    tokens, read, milliseconds = (
        sum(call[name] or 0 for call in calls) for name in ("tokens_out", "tokens_in", "latency_ms")
    )
    rate = tokens / milliseconds * 1000
    return f"{len(calls)} replies, {tokens} tokens in {milliseconds / 1000:.1f} s ({rate:.0f}/s), {read} tokens read"
