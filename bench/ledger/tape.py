"""What a session asked its ledger to write, recorded, and written again as another session."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from learning_signal.ledger.canonical import BodyHash
from learning_signal.ledger.write.rows import RowWriter
from learning_signal.ledger.write.sessions import SessionWriter
from learning_signal.ledger.write.writer import Ledger

WRITES = (
    (SessionWriter, ("begin_session", "end_session")),
    (RowWriter, ("add", "complete", "body", "json_body")),
    (Ledger, ("save_cursor", "add_metrics", "add_decision")),
)
"""The methods that are recorded: the outermost of them, since they call one another."""
NUMBERED = ("events", "llm_calls", "tool_calls")
"""Tables whose keys are given by the ledger and named in later writes."""

Entry = tuple[str, tuple[Any, ...], dict[str, Any], Any]
"""Method, arguments, and what it gave."""
BEGIN, END = "begin transaction", "end transaction"


@contextmanager
def recording() -> Iterator[list[Entry]]:
    """Record what every ledger of this process is asked to write."""
    tape: list[Entry] = []
    depth = 0

    def recorded(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(ledger: Ledger, *arguments: Any, **named: Any) -> Any:
            nonlocal depth
            given = copy.deepcopy((arguments, named)) if depth == 0 else None
            depth += 1
            try:
                result = original(ledger, *arguments, **named)
            finally:
                depth -= 1
            if given is not None:
                tape.append((name, *given, result))
            return result

        return write

    transaction = RowWriter.transaction

    @contextmanager
    def transacted(ledger: Ledger, label: str) -> Iterator[None]:
        outermost = depth == 0
        if outermost:
            tape.append((BEGIN, (label,), {}, None))
        try:
            with transaction(ledger, label):
                yield
        finally:
            if outermost:
                tape.append((END, (), {}, None))

    originals = [(owner, name, getattr(owner, name)) for owner, names in WRITES for name in names]
    RowWriter.transaction = transacted  # type: ignore[method-assign]
    for owner, name, original in originals:
        setattr(owner, name, recorded(name, original))
    try:
        yield tape
    finally:
        RowWriter.transaction = transaction  # type: ignore[method-assign]
        for owner, name, original in originals:
            setattr(owner, name, original)


class Player:
    """Writes a recorded session again, under an id of its own."""

    def __init__(self, ledger: Ledger, tape: list[Entry], session: str) -> None:
        self._ledger, self._tape, self._session = ledger, tape, session
        self._recorded = next(result for name, _, _, result in tape if name == "begin_session")
        self._keys: dict[tuple[str, int], int] = {}

    def play(self, start: int = 0) -> None:
        """Write everything, transaction by transaction."""
        at = start
        while at < len(self._tape):
            name, arguments, named, result = self._tape[at]
            if name == END:
                self._at = at
                return
            if name == BEGIN:
                with self._ledger.transaction(arguments[0]):
                    self.play(at + 1)
                at = self._at
            else:
                self._write(name, arguments, named, result)
            at += 1

    def _write(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        if name == "begin_session":
            named = named | {"id": self._session}
        table = arguments[0] if name in ("add", "complete") else None
        if name == "complete" and table in NUMBERED:
            arguments = (table, self._keys[table, arguments[1]])
        if "event_seq" in named:
            named = named | {"event_seq": self._keys["events", named["event_seq"]]}
        if named.get("ref_table") in NUMBERED:
            named = named | {"ref_id": str(self._keys[named["ref_table"], int(named["ref_id"])])}
        again = getattr(self._ledger, name)(*self._renamed(arguments), **self._renamed(named))
        if name == "add" and table in NUMBERED:
            self._keys[table, result] = again

    def _renamed(self, value: Any) -> Any:
        """``value`` with the id of this session in place of the recorded one's."""
        if isinstance(value, BodyHash):
            return value
        if isinstance(value, str):
            return value.replace(self._recorded, self._session)
        if isinstance(value, dict):
            return {name: self._renamed(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._renamed(each) for each in value)
        return value
