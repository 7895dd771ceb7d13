"""Reading a log: what the commands take at 5,000 and at 50,000 events, in many sessions and in one.

    python -m bench.reading [--quick] [--events FEWER MORE] [--json]

The events are those of sessions with rule-based agents and training without learning, recorded and written again by the
real writer: as other sessions of one log, and as later rounds of one session. Every command is a process of its own and
its time is CPU time, imports included, so that other processes disturb it less. The first screen of `log show` ends
with the 40th line. Growth is how many times as long a command takes at the larger size.

The texts of the recorded rounds come back with other numbers: a page has less to lay out than that of a session whose
agents never say the same again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.ledger.__main__ import run
from bench.ledger.tape import Player, recording
from bench.reading.long_session import Onward
from bench.reading.page import session_page_seconds
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.places import ROOT

SIZES = (5_000, 50_000)
"""Events at which everything is timed."""
ROUNDS = 10
"""Of the recording that one session is made of."""
SCREEN = 40
"""Lines of a terminal."""
COMMANDS = {
    "log list, 500 sessions": ("log", "list", "--limit", "500"),
    "log show, first screen": ("log", "show", "latest"),
    "log show of an event": ("log", "show", "latest#{event}"),
    "log search": ("log", "search", "coverage"),
    "explain": ("explain", "latest"),
    "report": ("log", "export", "latest", "--to", "{out}"),
    "log verify": ("log", "verify"),
}
PAGE = "a session's live page"
TARGETS = {
    "log list, 500 sessions": 0.5,
    "log show, first screen": 0.3,
    "log search": 0.2,
    "explain": 0.3,
    "report": 10.0,
    "log verify": 15.6,
    PAGE: 0.5,
}
"""Seconds at 50,000 events."""
LARGEST_PAGE = 1.0
"""Megabytes of a report of 5,000 events."""
PATIENCE = 300.0
"""Seconds after which a command is ended, and its time is told as unknown."""


def many(folder: Path) -> Iterator[Path]:
    """A log that takes session after session."""
    with recording() as tape:
        run(folder / "short", 1)
    with Ledger.open(folder / "many.db") as ledger:
        number = 0
        while True:
            Player(ledger, tape, f"20261122-{number:06d}-abc").play()
            number += 1
            yield ledger.path


def one(folder: Path) -> Iterator[Path]:
    """A log with one session that grows by rounds."""
    with recording() as tape:
        run(folder / "long", ROUNDS)
    with Ledger.open(folder / "one.db") as ledger:
        times = 0
        while True:
            Onward(ledger, tape, "20261122-000000-abc", times, ROUNDS).play()
            times += 1
            yield ledger.path


def seconds(ledger: Path, command: tuple[str, ...], lines: int | None, patience: float = PATIENCE) -> float | None:
    """CPU seconds of a command that is to end well; with ``lines``, whose output nobody reads after so many.

    None where it does not end in ``patience`` seconds.
    """
    with Reader.open(ledger) as reader:
        (row,) = reader.rows("SELECT max(seq) event FROM events WHERE kind = 'llm_call'")
    words = [each.format(event=row["event"], out=ledger.with_suffix(".html")) for each in command]
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *words, "--ledger", str(ledger)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert started.stdout is not None
    ended = Timer(patience, started.kill)
    ended.start()
    with started.stdout as output:
        read = sum(1 for line in output) if lines is None else sum(1 for _ in zip(output, range(lines), strict=False))
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    ended.cancel()
    if started.returncode == -signal.SIGKILL:
        return None
    if started.returncode or not read:
        raise RuntimeError(f"{' '.join(words)} ended with {started.returncode} after {read} lines")
    return used.ru_utime + used.ru_stime


def measure(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Every command at every size of every kind of log."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["LEARNING_SIGNAL_STATE"] = name
        kinds: dict[str, Callable[[Path], Iterator[Path]]] = {"many sessions": many, "one session": one}
        for kind, made in kinds.items():
            left = list(sizes)
            for ledger in made(Path(name)):
                with Reader.open(ledger) as reader:
                    (size,) = reader.rows("SELECT count(*) events, (SELECT count(*) FROM sessions) n FROM events")
                if size["events"] < left[0]:
                    continue
                left.pop(0)
                taken = {}
                for what, command in COMMANDS.items():
                    taken[what] = seconds(ledger, command, SCREEN if "first screen" in what else None)
                taken[PAGE] = session_page_seconds(ledger)
                page = ledger.with_suffix(".html").stat().st_size / 1e6
                found.append(
                    {"kind": kind, "events": size["events"], "sessions": size["n"], "seconds": taken, "page": page}
                )
                if not left:
                    break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 and 800 events")
    parser.add_argument("--events", type=int, nargs=2, default=SIZES, metavar="N", help="other sizes of the logs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure((200, 800) if arguments.quick else tuple(arguments.events))
    if arguments.json:
        print(json.dumps(found))
        return
    Console().print(table_of(found))


def table_of(found: Sequence[Mapping[str, Any]]) -> Table:
    """What ``measure`` found: two sizes of each kind of log, and how the times grow between them."""
    table = Table(title="reading: CPU seconds", title_justify="left", box=None)
    table.add_column("command")
    pairs = list(zip(found[::2], found[1::2], strict=True))
    for pair in pairs:
        for each in pair:
            table.add_column(f"{each['events']:,} events, {each['sessions']} sessions", justify="right", max_width=14)
        table.add_column("growth", justify="right")
    table.add_column("target", justify="right")
    for what in (*COMMANDS, PAGE):
        cells = [cell for pair in pairs for cell in _times(*(each["seconds"][what] for each in pair))]
        target = TARGETS.get(what)
        table.add_row(what, *cells, "" if target is None else f"{target:g}")
    sizes = [cell for pair in pairs for cell in (*(f"{each['page']:.2f}" for each in pair), "")]
    table.add_row("page of the report, MB", *sizes, f"{LARGEST_PAGE:g} at {SIZES[0]:,}")
    return table


def _times(fewer: float | None, more: float | None) -> tuple[str, str, str]:
    """Two times, and how many times as long the second is."""
    shown = [f"> {PATIENCE:g}" if each is None else f"{each:.2f}" for each in (fewer, more)]
    return shown[0], shown[1], "" if fewer is None or more is None else f"{more / fewer:.1f}"


if __name__ == "__main__":
    main()
