"""One session of any length: the rounds of a recorded one are written again and again, each time as later rounds."""

from __future__ import annotations

import re
from typing import Any

from bench.ledger.tape import Entry, Player
from learning_signal.ledger.canonical import BodyHash
from learning_signal.ledger.write.writer import Ledger

APART = 10_000
"""Between the numbers of evidence, branches and comparisons of two recordings."""


class Onward(Player):
    """Writes a recorded session once more at the end of itself: its rounds, ids and segments get later numbers."""

    def __init__(self, ledger: Ledger, tape: list[Entry], session: str, times: int, rounds: int) -> None:
        """``times`` is how often it was written before, ``rounds`` how many the recording has."""
        super().__init__(ledger, tape, session)
        self._times, self._later = times, times * rounds
        self._patterns = (
            (re.compile(rf"({re.escape(session)}/[DPVR])(\d+)"), self._later),
            (re.compile(rf"({re.escape(session)}/[BC])(\d+)"), times * APART),
            (re.compile(r"()(?<=\bE)(\d+)\b"), times * APART),
        )

    def _write(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        # A session begins once, and this one does not end; who the agents are is said once.
        ends = name == "end_session" or (name == "complete" and arguments[0] == "sessions")
        again = name in ("begin_session", "save_cursor") or (name == "add" and arguments[0] == "agents")
        if ends or (again and self._times):
            return
        if named.get("round") is not None:
            named = named | {"round": named["round"] + self._later}
        super()._write(name, arguments, named, result)

    def _renamed(self, value: Any) -> Any:
        again = super()._renamed(value)
        if not isinstance(again, str) or isinstance(again, BodyHash) or not self._times:
            return again
        for pattern, shift in self._patterns:
            again = pattern.sub(lambda found, by=shift: f"{found[1]}{int(found[2]) + by}", again)
        return re.sub(r"\bs[0-9a-f]{4}([0-9a-f]{12})\b", rf"s{self._times:04x}\1", again)
