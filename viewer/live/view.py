"""What a session shows while it runs: `LiveView` on a terminal, `PlainView` in a pipe or a CI log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loguru import logger
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import Entry
from learning_signal.viewer.live.approval import Approver
from learning_signal.viewer.live.base import EVERY_SECONDS, View
from learning_signal.viewer.live.board import WIDTH, Board, arm_table, header
from learning_signal.viewer.live.story import spoken, worth_a_line
from learning_signal.viewer.live.turn import Seat
from learning_signal.viewer.text import agent_text, clean

HANGING = 16
"""Columns the second line of a message is indented by: below the first word said."""


class Details:
    """Reads the bodies of an event from the ledger, once there is one."""

    def __init__(self, ledger: Path | None) -> None:
        self._ledger = ledger
        self._reader: Reader | None = None

    def of(self, row: Mapping[str, Any]) -> Entry | None:
        """What belongs to an event; None where the view has no ledger or the event needs no bodies."""
        if self._ledger is None or not worth_a_line(row) or row["kind"] in ("stage", "session"):
            return None
        if self._reader is None:
            self._reader = Reader.open(self._ledger)
        return self._reader.entry(row["seq"])

    def line(self, row: Mapping[str, Any]) -> Text | None:
        """The text of an event. A body that cannot be read or shown loses its details, and never fails the session."""
        try:
            return spoken(row, self.of(row))
        except Exception as error:
            logger.warning("The details of event {} cannot be shown ({}).", row.get("seq"), type(error).__name__)
            return spoken(row, None)

    def close(self) -> None:
        """Close the ledger; the next event opens it again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _answer_pair(approved: bool, reason: str) -> tuple[bool, str]:
    return approved, reason


class SessionView(View):
    """What both views of a session share.

    ``event`` is called from one thread, the other observer calls may come from any. Messages are read from ``ledger``;
    ``answer`` makes the record `ask_human` returns.
    """

    def __init__(
        self,
        console: Console,
        heading: str,
        ledger: Path | None = None,
        answer: Callable[[bool, str], Any] = _answer_pair,
        every: float = EVERY_SECONDS,
    ) -> None:
        super().__init__(console, heading, every=every)
        self.board = Board()
        self._lock = threading.Lock()
        self._approver = Approver(console, ledger, answer)
        self._seat = Seat(console)
        self._details = Details(ledger)

    @property
    def session(self) -> str | None:
        """Id of the session, once it is known."""
        return self.board.session

    def stop(self) -> None:
        """Give the terminal back and close the ledger; may be called twice."""
        super().stop()
        self._details.close()

    def event(self, row: Mapping[str, Any]) -> None:
        """Print what a committed event says."""
        with self._lock:
            self.board.event(row)
        line = self._details.line(row)
        if line is not None:
            self.say(line)

    def progress(
        self, segment_id: str, purpose: str, arm: str, done: int, total: int, latest: Mapping[str, Any]
    ) -> None:
        """Note how far an arm has come."""
        with self._lock:
            self.board.progress(segment_id, purpose, arm, done, total, latest)

    def stage(self, info: Mapping[str, Any]) -> None:
        """Note where the main run stands."""
        with self._lock:
            self.board.stand(info)

    def ask_human(self, question: Any) -> Any:
        """Put a promotion to the person at the terminal; blocks until there is an answer, None for none from here."""
        return self._approver.ask(question)

    def take_turn(self, turn: Any) -> dict[str, str]:
        """Let the person at the terminal take the turn of an agent; blocks until it is taken."""
        return self._seat.take(turn)


class LiveView(SessionView):
    """The live view of a terminal: what is said scrolls by, below it the main run and the branches in training."""

    def __init__(
        self,
        console: Console,
        heading: str,
        ledger: Path | None = None,
        answer: Callable[[bool, str], Any] = _answer_pair,
        refresh: float = 4.0,
    ) -> None:
        super().__init__(console, heading, ledger, answer)
        self._display = self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=refresh,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def ask_human(self, question: Any) -> Any:
        """Put a promotion to the person at the terminal, without the live area; blocks until there is an answer."""
        self._live.stop()
        try:
            return super().ask_human(question)
        finally:
            self._live.start(refresh=True)

    def take_turn(self, turn: Any) -> dict[str, str]:
        """Let the person at the terminal take the turn of an agent, without the live area."""
        self._live.stop()
        try:
            return super().take_turn(turn)
        finally:
            self._live.start(refresh=True)

    def say(self, line: Text) -> None:
        """Print one line (or wrapped lines with a hanging indent) above the live area, which has the heading."""
        self.console.print(_hanging(line, min(WIDTH, self.console.width)))

    def _render(self) -> RenderableType:
        with self._lock:
            lines: list[RenderableType] = [Text("─" * min(WIDTH, self.console.width), "dim")]
            lines += header(self.board, self._heading)
            if self.board.arms:
                lines.append(arm_table(self.board))
            if self.board.thinking:
                agent, since = self.board.thinking
                lines.append(Text.assemble(agent_text(agent), f" is thinking ({time.monotonic() - since:.0f} s)"))
        for line in lines:
            if isinstance(line, Text):
                line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)


class PlainView(SessionView):
    """The view of a pipe or a CI log: one line per event, no control codes, progress every few seconds."""

    def __init__(
        self,
        console: Console,
        heading: str,
        ledger: Path | None = None,
        answer: Callable[[bool, str], Any] = _answer_pair,
        every: float = EVERY_SECONDS,
    ) -> None:
        super().__init__(console, heading, ledger, answer, every=every)

    def progress(
        self, segment_id: str, purpose: str, arm: str, done: int, total: int, latest: Mapping[str, Any]
    ) -> None:
        """Note how far an arm has come, and write one line on the arms in training when that is due."""
        super().progress(segment_id, purpose, arm, done, total, latest)
        with self._lock:
            arms = [each for each in self.board.arms.values() if each.share < 1] if self.due() else []
            parts = [f"{each.purpose} {each.name} {each.share:.0%}".replace("main main", "main") for each in arms]
        if parts:
            self.say(Text(f"    training    {clean(', '.join(parts))}"))

    def say(self, line: Text) -> None:
        """Write what is said on one line."""
        super().say(Text("; ").join(line.split("\n")))


def _hanging(line: Text, width: int) -> Text:
    """``line`` wrapped to ``width`` columns, its later lines indented below the first word said."""
    console = Console(width=width, color_system=None)
    head, rest = line.divide([HANGING])[0], line.divide([HANGING])[1:]
    if not rest:
        return line
    wrapped = rest[0].wrap(console, max(20, width - HANGING))
    result = head
    for index, part in enumerate(wrapped):
        part.rstrip()
        result = Text.assemble(result, *(("\n" + " " * HANGING,) if index else ()), part)
    return result
