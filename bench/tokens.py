"""Tokens of one round with a strong model: a scripted one plays a recorded session's part over HTTP.

    python -m bench.tokens [--json]

Tokens are the product's estimate (`agents/tokens.py`) of what a model reads and writes: every request with its tools,
and every answer. "New" are those of a request that do not repeat the beginning of the agent's request before; providers
charge the others at a fraction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from bench.session import Silent
from learning_signal.agents.tokens import count_tokens
from learning_signal.tools.base import compact

TASK = "Foraging-10x10-3p-3f-v3"
ROLES = ("critic", "generator", "validator", "coordinator")
BEFORE = {
    "critic": {"calls": 4, "tokens": 28_493, "new": 9_900},
    "generator": {"calls": 1, "tokens": 7_623, "new": 7_623},
    "validator": {"calls": 6, "tokens": 26_414, "new": 11_526},
    "coordinator": {"calls": 2, "tokens": 9_972, "new": 5_218},
}
"""The recorded session of a strong model on this task, counted in the same way: calls, tokens and new tokens."""
TARGET = 40_000
"""Most tokens of a round."""


@dataclass(frozen=True)
class Row:
    """Tokens of one call of the model."""

    role: str
    request: int
    new: int
    """Of the request: without what repeats the beginning of the agent's request before."""
    answer: int


COLUMNS = ("calls", "tokens", "new")


def measure(stage_steps: int = 38_400, branch_steps: int = 19_200) -> list[Row]:
    """Play one round in a temporary folder; a row for every call of the model, in order. Lengths are in env steps."""
    from bench.support.strong_model import answer
    from learning_signal.agents.session.session import run_session
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.marl.settings import RunSettings
    from learning_signal.tools.plan.settings import SessionSettings
    from tests.support.scripted_server import serving

    exchanges: list[tuple[dict[str, Any], dict[str, Any]]] = []

    async def noted(request: Any) -> Any:
        reply = await answer(request)
        exchanges.append((request.body, reply.body["choices"][0]["message"]))
        return reply

    async def play(folder: Path) -> Any:
        async with serving(noted) as server:
            settings = SessionSettings(
                run=RunSettings(task=TASK),
                agents=dict.fromkeys(ROLES, f"openai-api/strong@{server.address}"),
                agent_sources=dict.fromkeys(ROLES, "default"),
                rounds=1,
                stages=2,
                stage_steps=stage_steps,
                branch_steps=branch_steps,
                store=folder / "segments",
                ledger=folder / "ledger.db",
            )
            return await run_session(settings, observer=Silent())

    with tempfile.TemporaryDirectory() as name:
        outcome = asyncio.run(play(Path(name)))
        if outcome.status != "done":
            raise RuntimeError(f"the session is {outcome.status}: {outcome.stop_reason}")
        with Reader.open(Path(name) / "ledger.db") as reader:
            refused = reader.rows(
                "SELECT t.name, b.body FROM tool_calls t JOIN bodies b ON b.hash = t.result WHERE t.status != 'ok'"
            )
        if refused:
            raise RuntimeError(f"{refused[0]['name']} was refused, so the part does not fit: {refused[0]['body']}")
        return counted(exchanges)


def counted(exchanges: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[Row]:
    """Tokens of each request and answer (messages of the chat protocol), in order."""
    rows: list[Row] = []
    before: dict[str, list[str]] = {}
    for request, answer in exchanges:
        role = _role(request)
        texts = [compact(tool["function"]) for tool in request.get("tools") or ()]
        texts += [text for message in request["messages"] for text in _texts(message)]
        known = _alike(texts, before.get(role, []))
        before[role] = texts
        tokens = [count_tokens(text) for text in texts]
        rows.append(Row(role, sum(tokens), sum(tokens[known:]), sum(map(count_tokens, _texts(answer)))))
    return rows


def _alike(texts: Sequence[str], others: Sequence[str]) -> int:
    """How many texts both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(texts, others, strict=False)))


def _role(request: dict[str, Any]) -> str:
    return next(role for role in ROLES if role in request["messages"][0]["content"][:60].lower())


def _texts(message: dict[str, Any]) -> list[str]:
    """What a message says: its content, and the names and arguments of its calls."""
    made = [each["function"] for each in message.get("tool_calls") or ()]
    return [message.get("content") or "", *(text for each in made for text in (each["name"], each["arguments"]))]


def by_role(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Calls, tokens and new tokens of each role."""
    return {
        role: {
            "calls": sum(row.role == role for row in rows),
            "tokens": sum(row.request + row.answer for row in rows if row.role == role),
            "new": sum(row.new + row.answer for row in rows if row.role == role),
        }
        for role in ROLES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = measure()
    now = by_role(rows)
    if arguments.json:
        print(json.dumps({"calls": [asdict(row) for row in rows], "now": now, "before": BEFORE}))
        return
    from rich.console import Console
    from rich.table import Table

    each = Table(title="Tokens of every call", box=None)
    for name in ("call", "agent", "request", "of it new", "answer"):
        each.add_column(name, justify="left" if name == "agent" else "right")
    for number, row in enumerate(rows, 1):
        each.add_row(str(number), row.role, f"{row.request:,}", f"{row.new:,}", f"{row.answer:,}")
    both = Table(title=f"Tokens of a round (target: at most {TARGET:,})", box=None)
    for name in ("agent", "before: calls", "tokens", "new", "now: calls", "tokens", "new"):
        both.add_column(name, justify="left" if name == "agent" else "right")
    for role in ROLES:
        both.add_row(role, *(f"{side[role][name]:,}" for side in (BEFORE, now) for name in COLUMNS))
    both.add_section()
    sums = [sum(side[role][name] for role in ROLES) for side in (BEFORE, now) for name in COLUMNS]
    both.add_row("all", *(f"{one:,}" for one in sums))
    console = Console()
    console.print(each)
    console.print(both)


if __name__ == "__main__":
    main()
