"""The ledger: bytes per event, events written per second, how both and `log verify` grow with it.

    python -m bench.ledger [--quick] [--real] [--json]

A session of the shipped settings is run with rule-based agents and training without learning, so that only what is
written is as in a real one. What it asks its ledger to write is recorded and written again, transaction by transaction,
as other sessions of one ledger. Times are of this process (CPU time), so that others disturb them less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.ledger.tape import Entry, Player, recording
from bench.session import Silent

ROUNDS = 3
SIZES = (5_000, 50_000)
"""Events at which `log verify` is timed."""
SESSIONS = 800
"""At least so many sessions are written to one ledger."""
BEFORE: dict[str | int, str] = {
    "synthetic": "9,071",
    "real": "13,299",
    "rate": "105",
    "first": "0.176",
    "last": "1.045",
    5_000: "1.5",
    50_000: "16.9",
}
"""The same, measured on the same machine before there were chains, with a row for every value of a metric."""


def run(folder: Path, rounds: int, *, real: bool = False) -> Path:
    """A session with agents by rule in ``folder``; its ledger. Its training is short where it is ``real``."""
    from learning_signal.agents.session.session import run_session
    from learning_signal.tools.plan.settings import SessionSettings
    from learning_signal.tools.roles import ROLES
    from tests.support.synthetic_training import InlinePool

    shorter = {"stage_steps": 40_000, "branch_steps": 30_000} if real else {}
    settings = SessionSettings(
        agents=dict.fromkeys(ROLES, "rules"),
        agent_sources=dict.fromkeys(ROLES, "default"),
        rounds=rounds,
        store=folder / "segments",
        ledger=folder / "ledger.db",
        **shorter,
    )
    executor = None if real else InlinePool(settings.store)
    outcome = asyncio.run(run_session(settings, observer=Silent(), executor=executor))
    if outcome.status != "done":
        raise RuntimeError(f"the session is {outcome.status}: {outcome.stop_reason}")
    return settings.ledger


def size(ledger: Path) -> dict[str, Any]:
    """Events and bytes of a ledger, in its file and its write-ahead log."""
    with closing(sqlite3.connect(ledger)) as database:
        (events,) = database.execute("SELECT count(*) FROM events").fetchone()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return {"events": events, "bytes": ledger.stat().st_size / events}


def verified(ledger: Path) -> float:
    """CPU seconds of `log verify`, which must find nothing."""
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.read.verify import verify
    from learning_signal.marl.gate.recompute import recompute
    from learning_signal.tools.plan.settings import session_rules

    began = time.process_time()
    with Reader.open(ledger) as reader:
        findings = verify(reader, recompute, session_rules)
    if findings:
        raise RuntimeError(f"log verify has {len(findings)} findings, the first is {findings[0]}")
    return time.process_time() - began


def written(folder: Path, tape: list[Entry], sizes: tuple[int, ...], sessions: int) -> dict[str, Any]:
    """One ledger takes session after session: CPU seconds of each, and of a verification at every size."""
    from learning_signal.ledger.write.writer import Ledger

    path, seconds, checks = folder / "many.db", [], {}
    with Ledger.open(path) as ledger:
        left = list(sizes)
        while left or len(seconds) < sessions:
            began = time.process_time()
            day, number = divmod(len(seconds), 36**3)
            Player(ledger, tape, f"20261122-{day:06d}-{_digits(number)}").play()
            seconds.append(time.process_time() - began)
            (row,) = ledger.rows("SELECT max(seq) events FROM events")
            if left and row["events"] >= left[0]:
                checks[left.pop(0)] = verified(path)
        events = row["events"]
    return {
        "sessions": len(seconds),
        "events": events,
        "first": sorted(seconds[:9])[4],
        "last": sorted(seconds[-9:])[4],
        "events_per_second": events / sum(seconds),
        "verify": checks,
    }


def _digits(number: int) -> str:
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    return letters[number // 1296] + letters[number // 36 % 36] + letters[number % 36]


def measure(quick: bool, real: bool) -> dict[str, Any]:
    """Everything that is printed."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["LEARNING_SIGNAL_STATE"] = name
        for kind in ("synthetic", "small", *(["real"] if real else [])):
            (Path(name) / kind).mkdir()
        found["synthetic"] = size(run(Path(name) / "synthetic", ROUNDS))
        if real:
            found["real"] = size(run(Path(name) / "real", 1, real=True))
        with recording() as tape:
            run(Path(name) / "small", 1)
        found["many"] = written(Path(name), tape, (1_000,) if quick else SIZES, 20 if quick else SESSIONS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 events")
    parser.add_argument("--real", action="store_true", help="a session with real training, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments.quick, arguments.real)
    if arguments.json:
        print(json.dumps(found))
        return
    many = found["many"]
    table = Table(title="the ledger", title_justify="left", box=None)
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("before", justify="right")
    for kind in ("synthetic", "real"):
        if kind in found:
            words = f"bytes per event, {found[kind]['events']} events of a session with {kind} training"
            table.add_row(words, f"{found[kind]['bytes']:,.0f}", BEFORE[kind])
    table.add_row("events written per second", f"{many['events_per_second']:,.0f}", BEFORE["rate"])
    table.add_row("seconds per session, of the first nine", f"{many['first']:.3f}", BEFORE["first"])
    table.add_row(f"seconds per session, of the last nine of {many['sessions']}", f"{many['last']:.3f}", BEFORE["last"])
    for events, seconds in many["verify"].items():
        table.add_row(f"seconds of log verify at {events:,} events", f"{seconds:.1f}", BEFORE.get(events, ""))
    Console().print(table)


if __name__ == "__main__":
    main()
