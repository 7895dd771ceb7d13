"""The state of a running session and how it is drawn: the main run, and the segments in training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from learning_signal.viewer.text import agent_text, bar, clean, count, joined, number, shorten, sparkline, styled

WIDTH = 100
"""Columns the views are made for; a wider terminal leaves the rest empty."""


@dataclass
class Arm:
    """One row of the branch table: the segments of one arm for one purpose."""

    purpose: str
    name: str
    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    latest: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def update(self, segment_id: str, done: int, total: int, latest: Mapping[str, Any]) -> None:
        """Take in one report of a worker."""
        self.done[segment_id], self.total[segment_id] = done, total
        if latest:
            self.latest[segment_id] = latest

    def finish(self, segment_id: str, failed: bool) -> None:
        """Note that a segment has ended: its last report may have been left out."""
        if segment_id in self.done:
            self.done[segment_id] = self.total[segment_id]
            if failed:
                self.failed.add(segment_id)

    @property
    def share(self) -> float:
        """Env steps done as a share of those of all segments seen so far."""
        return sum(self.done.values()) / max(1, sum(self.total.values()))

    @property
    def finished(self) -> int:
        """Segments that are complete."""
        return sum(self.done[each] >= self.total[each] for each in self.done)

    def mean(self, measure: str) -> float | None:
        """The mean of the latest values of ``measure`` over the segments that have one."""
        values = [each[measure] for each in self.latest.values() if each.get(measure) is not None]
        return sum(values) / len(values) if values else None


class Board:
    """The known state of a running session; fed by the observer calls, from any thread."""

    def __init__(self) -> None:
        self.session: str | None = None
        self.stage: dict[str, Any] = {}
        self.returns: list[tuple[int, float | None, float | None]] = []
        self.arms: dict[tuple[str, str], Arm] = {}
        self.thinking: tuple[str, float] | None = None

    def event(self, row: Mapping[str, Any]) -> None:
        """Note whose turn it is and which segments are complete; a decision ends its round's branches."""
        self.session = row.get("session_id") or self.session
        if row["kind"] == "llm_call":
            waits = row["status"] == "pending" and row.get("agent")
            self.thinking = (row["agent"], time.monotonic()) if waits else None
        if row["kind"] == "segment" and row.get("ref_id"):
            for arm in self.arms.values():
                arm.finish(row["ref_id"], row["status"] == "error")
        if row["kind"] == "decision":
            self.arms = {}

    def progress(
        self, segment_id: str, purpose: str, arm: str, done: int, total: int, latest: Mapping[str, Any]
    ) -> Arm:
        """Take in one report of a worker and return the arm it belongs to."""
        if purpose == "main":
            # The main run is one chain: its finished pieces make room for the next.
            self.arms = {key: each for key, each in self.arms.items() if each.share < 1}
        row = self.arms.setdefault((purpose, arm), Arm(purpose, arm))
        row.update(segment_id, done, total, latest)
        return row

    def stand(self, info: Mapping[str, Any]) -> None:
        """Take in where the main run stands."""
        self.stage = dict(info)
        steps = info.get("env_steps")
        if steps is not None and (not self.returns or self.returns[-1][0] != steps):
            self.returns.append((steps, info.get("sparse_return"), info.get("progress")))


def header(board: Board, heading: str) -> list[Text]:
    """Where the session stands, in three lines."""
    info = board.stage
    first = [Text(clean(heading), "bold"), styled(board.session or "", "dim")]
    if info.get("round"):
        first.append(Text(f"round {info['round']} of {info.get('rounds', '?')}"))
    if info.get("phase"):
        first.append(agent_text(info["phase"]))
    second = [Text("HEAD", "bold"), Text(f"{count(info.get('env_steps'))} env steps")]
    for measure, position in (("sparse_return", 1), ("progress", 2)):
        value = Text(f"{measure.replace('_', ' ')} ")
        value.append(number(info.get(measure)), "bold")
        value.append(" " + sparkline(point[position] for point in board.returns), "blue")
        second.append(value)
    second.append(styled(info.get("stage") or "", "italic"))
    lines = [joined(first, " · "), joined(second)]
    if info.get("shaping_text"):
        lines.append(Text(f"shaping: {shorten(info['shaping_text'], WIDTH - 10)}", "dim"))
    return lines


def arm_table(board: Board) -> Table:
    """The segments in training, one row per arm."""
    table = Table.grid(padding=(0, 2))
    for _ in range(5):
        table.add_column(no_wrap=True)
    for arm in list(board.arms.values()):
        label = arm.purpose if arm.purpose == arm.name else f"{arm.purpose} {arm.name}"
        table.add_row(
            styled(label, "bold" if arm.purpose == "main" else ""),
            Text(bar(arm.share, 28), "green" if arm.share >= 1 else "blue"),
            Text(f"{len(arm.failed)} failed", "red") if arm.failed else Text(f"{arm.finished} of {len(arm.done)} done"),
            Text(f"sparse return {number(arm.mean('sparse_return'))}"),
            Text(f"progress {number(arm.mean('progress'))}"),
        )
    return table
