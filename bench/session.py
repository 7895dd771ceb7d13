"""A session: the share of its wall time that is neither training in the workers nor an answer of a model.

    python -m bench.session [--quick] [--seed 0] [--workers N] [--json]
    python -m bench.session --answers [--json]

Every instant belongs to the first that applies: a worker computes a segment; a model answers; the ledger is
written; a tool runs; the first segment has not begun (imports, starting workers); the rest. All but the first
two is overhead. ``--answers`` measures what passes between an answer and the next request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

KINDS = ("training", "model answers", "ledger", "tools", "start", "rest")
OVERHEAD = KINDS[2:]
TARGET = 0.05
"""Largest share of the wall time that may be overhead."""

Interval = tuple[float, float]


class Silent:
    """Nobody watches."""

    def event(self, row) -> None: ...

    def progress(self, *report) -> None: ...

    def stage(self, info) -> None: ...

    def ask_human(self, question):
        raise RuntimeError("a benchmark needs no approval")

    def take_turn(self, turn):
        return {"absent": "this is a benchmark"}


def attributed(begin: float, end: float, intervals: Sequence[Iterable[Interval]]) -> list[float]:
    """Seconds between ``begin`` and ``end`` covered by each group of intervals and by none before it."""
    marks = sorted(
        (min(max(at, begin), end), change, group)
        for group, each in enumerate(intervals)
        for low, high in each
        for at, change in ((low, 1), (high, -1))
    )
    seconds, covering = [0.0] * len(intervals), [0] * len(intervals)
    for (at, change, group), (following, _, _) in zip(marks, [*marks[1:], (end, 0, 0)], strict=True):
        covering[group] += change
        first = next((index for index, count in enumerate(covering) if count > 0), None)
        if first is not None:
            seconds[first] += following - at
    return seconds


def measure(quick: bool, seed: int, workers: int | None) -> dict[str, float]:
    """Run a session in a temporary folder; its seconds by kind, and what its workers did."""
    begin = time.time()
    from learning_signal.agents.session.session import run_session
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.write.writer import Ledger
    from learning_signal.marl.executors.local import available_cores
    from learning_signal.tools.plan.settings import SessionSettings
    from learning_signal.tools.roles import ROLES

    imported = time.time()
    writes: list[Interval] = []
    original = Ledger.transaction

    @contextmanager
    def transaction(ledger, label):
        started = time.time()
        with original(ledger, label):
            yield
        writes.append((started, time.time()))

    Ledger.transaction = transaction
    smaller = {"rounds": 1, "stage_steps": 40_000, "branch_steps": 30_000} if quick else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = SessionSettings(
            agents=dict.fromkeys(ROLES, "rules"),
            agent_sources=dict.fromkeys(ROLES, "default"),
            seed=seed,
            workers=workers,
            store=folder / "segments",
            ledger=folder / "ledger.db",
            **smaller,
        )
        outcome = asyncio.run(run_session(settings, observer=Silent()))
        end = time.time()
        with Reader.open(settings.ledger) as reader:
            segments = list(reader.segments().values())
            answers = [_interval(event.started_at, event.ended_at) for event in reader.events(kind="llm_call")]
            tools = [_interval(event.started_at, event.ended_at) for event in reader.events(kind="tool_call")]
    Ledger.transaction = original
    if outcome.status != "done":
        raise RuntimeError(f"the session is {outcome.status}: {outcome.stop_reason}")
    # A segment is started when it is queued: a worker computes it in the last wall_seconds before it ended.
    training = [(_seconds(each.ended_at) - each.wall_seconds, _seconds(each.ended_at)) for each in segments]
    before_training = [(begin, min(low for low, _ in training))]
    kinds = attributed(begin, end, [training, answers, writes, tools, before_training, [(begin, end)]])
    used = workers or available_cores()
    return dict(zip(KINDS, kinds, strict=True)) | {
        "wall": end - begin,
        "imports": imported - begin,
        "workers": used,
        "segments": len(segments),
        "busy": sum(each.wall_seconds for each in segments) / (used * (end - begin)),
    }


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _interval(start: str, end: str) -> Interval:
    return _seconds(start), _seconds(end)


def show_answers(as_json: bool) -> None:
    """Print how long a session takes from an answer to the next request."""
    from rich.console import Console
    from rich.table import Table

    from bench.support.answers import TARGET, overheads

    rows = overheads()
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    shown = Table(title=f"From an answer to the next request, ms (target: median {TARGET:g})", box=None)
    for column in ("protocol", "turns", "median", "worst", "CPU time, median"):
        shown.add_column(column, justify="left" if column == "protocol" else "right")
    for row in rows:
        shown.add_row(row.protocol, str(row.turns), f"{row.median:.1f}", f"{row.worst:.1f}", f"{row.cpu:.1f}")
    Console().print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round with short stages and branches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=None, help="worker processes; one per core by default")
    parser.add_argument("--answers", action="store_true", help="from an answer to the next request, by protocol")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.answers:
        show_answers(arguments.json)
        return
    result = measure(arguments.quick, arguments.seed, arguments.workers)
    overhead = sum(result[kind] for kind in OVERHEAD)
    if arguments.json:
        print(json.dumps(result | {"overhead": overhead / result["wall"]}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"A session of {result['wall']:.1f} s: {result['segments']:.0f} segments", box=None)
    table.add_column("time")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    for kind in KINDS:
        note = f" (of it imports {result['imports']:.2f} s)" if kind == "start" else ""
        table.add_row(kind + note, f"{result[kind]:.2f}", f"{result[kind] / result['wall']:.1%}")
    table.add_section()
    table.add_row("overhead", f"{overhead:.2f}", f"{overhead / result['wall']:.1%} (target {TARGET:.0%})")
    table.add_row(f"{result['workers']:.0f} workers busy", "", f"{result['busy']:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
