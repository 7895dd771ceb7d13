"""Read the ledger, never write it: sessions, the story of one, its decisions and its training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from learning_signal.ledger.chain.seal import seal_of, was_recovered
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.file.damage import stored_json
from learning_signal.ledger.ids import ID_IN_SQL, is_session_id, refuse_strange_id
from learning_signal.ledger.liveness import process_lives
from learning_signal.ledger.questions import open_question
from learning_signal.ledger.read import costs, training
from learning_signal.ledger.read.costs import Costs
from learning_signal.ledger.read.events.entries import entries
from learning_signal.ledger.read.query import Query, event_filter
from learning_signal.ledger.read.records import (
    AgentRow,
    ComparisonRow,
    DecisionRow,
    Entry,
    EventRow,
    SessionRow,
    VerdictRow,
)
from learning_signal.ledger.read.training import EvaluationRow, MainRunRow, SegmentRow
from learning_signal.ledger.schema import CONFIGURED_TASK


class Reader(Query):
    """The reading side of the log, as records."""

    def __exit__(self, *raised: object) -> None:
        """Close the file. An error that comes from damage in it is raised as ``LedgerError``: where, and what helps."""
        error, behind = raised[1], None
        try:
            if isinstance(error, Exception):
                from learning_signal.ledger.read.checks.damage import damage_behind

                behind = damage_behind(error, self)
        finally:
            self.close()
        if behind is not None:
            raise behind from raised[1]  # type: ignore[misc]

    # sessions -------------------------------------------------------------------------------------

    def sessions(self, limit: int | None = 20) -> list[SessionRow]:
        """The newest sessions first; all of them when ``limit`` is None, but never a strange one."""
        ids = self.rows(
            f"SELECT id FROM sessions WHERE id {ID_IN_SQL} ORDER BY started_at DESC, id DESC LIMIT ?",
            (-1 if limit is None else limit,),
        )
        return [self._session(row["id"]) for row in ids]

    def session_ids(self) -> list[str]:
        """The ids of all sessions but strange ones, the newest first."""
        return [each for each in self._session_ids() if is_session_id(each)]

    def strange_sessions(self) -> list[str]:
        """The ids that this program does not write; reading one of these sessions is refused."""
        return [each for each in self._session_ids() if not is_session_id(each)]

    def session(self, id_or_prefix: str = "latest") -> SessionRow:
        """The session with this id or this beginning of one, or the latest.

        Raises:
            LedgerError: no session, or more than one, fits; the sentence names the nearest.
        """
        return self._session(self.session_id(id_or_prefix))

    def _session(self, session_id: str) -> SessionRow:
        row = self.rows("SELECT * FROM sessions WHERE id = ?", (session_id,))[0]
        actions = {
            each["action"]: each["n"]
            for each in self.rows(
                "SELECT action, count(*) n FROM decisions WHERE session_id = ? GROUP BY 1", (session_id,)
            )
        }
        (more,) = self.rows(
            "SELECT (SELECT max(round) FROM events WHERE session_id = ?1) rounds, "
            f"(SELECT {costs.token_sum('tokens_in')} FROM llm_calls WHERE session_id = ?1) tokens_in, "
            f"(SELECT {costs.token_sum('tokens_out')} FROM llm_calls WHERE session_id = ?1) tokens_out, "
            f"(SELECT json_extract(body, '{CONFIGURED_TASK}') FROM bodies WHERE hash = ?2 AND json_valid(body)) task",
            (session_id, row["config"]),
        )
        stored = {field.name: row[field.name] for field in fields(SessionRow) if field.name in row}
        if isinstance(more["task"], str):  # what a resume would train, whatever the column beside it says
            stored["task"] = more["task"]
        counted: dict[str, Any] = costs.env_steps(self, session_id)
        evaluation, asked = costs.evaluation_of(counted), open_question(self.rows, session_id)
        return SessionRow(
            **stored | {"status": _true_status(row), "budget": self._limits(row)},
            **{name: value for name, value in counted.items() if name.startswith("env_steps")},
            evaluation_env_steps=evaluation,
            rounds=more["rounds"] or 0,
            promoted=actions.get("promote", 0),
            kept=actions.get("keep", 0),
            rolled_back=actions.get("roll_back", 0),
            tokens_in=costs.whole(more["tokens_in"]),
            tokens_out=costs.whole(more["tokens_out"]),
            seal=seal_of(self.rows, session_id),
            recovered=was_recovered(self.rows, session_id),
            asks=None if asked is None or row["status"] == "done" else asked.id,
        )

    def _limits(self, session: dict[str, Any]) -> dict[str, float]:
        """The limits in force, of a row of sessions."""
        what = f"the budget of session {session['id']}"
        limits = stored_json(self.path, session["budget"] or "{}", what, (dict,))
        return {name: limit for name, limit in limits.items() if limit is not None}

    def config(self, session: str = "latest") -> dict[str, Any]:
        """The whole configuration a session was started with."""
        session_id = self.session_id(session)
        address = self.rows("SELECT config FROM sessions WHERE id = ?", (session_id,))[0]["config"]
        return self.object(address)

    def cursor(self, session: str = "latest") -> dict[str, Any] | None:
        """Where a session stands, None before its first step."""
        found = self.rows("SELECT state FROM cursors WHERE session_id = ?", (self.session_id(session),))
        return stored_json(self.path, found[0]["state"], "where a session stands", (dict,)) if found else None

    def agents(self, session: str = "latest") -> list[AgentRow]:
        """Who spoke, oldest first; a role has several rows when a resume brought another backend."""
        rows = self.rows("SELECT * FROM agents WHERE session_id = ? ORDER BY since, rowid", (self.session_id(session),))
        return [
            AgentRow(
                row["role"],
                row["spec"],
                row["source"],
                self.body(row["prompt"]),
                self.json(row["tools"], (list,)),
                row["since"],
            )
            for row in rows
        ]

    # the story ------------------------------------------------------------------------------------

    def events(
        self,
        session: str = "latest",
        agent: str | None = None,
        round: int | None = None,
        kind: str | None = None,
        status: str | None = None,
        tool: str | None = None,
        after_seq: int = 0,
        limit: int | None = None,
    ) -> list[EventRow]:
        """The events of a session in order; None for a filter leaves it out, ``tool`` keeps the calls of one."""
        where, values = event_filter(
            session_id=self.session_id(session), agent=agent, round=round, kind=kind, status=status
        )
        if tool is not None:
            where += " AND EXISTS (SELECT 1 FROM tool_calls t WHERE t.event_seq = e.seq AND t.name = ?)"
            values.append(tool)
        rows = self.rows(
            f"SELECT * FROM events e WHERE {where} AND e.seq > ? ORDER BY e.seq LIMIT ?",
            (*values, after_seq, -1 if limit is None else limit),
        )
        return [EventRow(**row) for row in rows]

    def entry(self, seq: int) -> Entry:
        """Everything about one event; raises ``LedgerError`` when there is no such event, or its session is strange."""
        found = self.rows("SELECT * FROM events WHERE seq = ?", (seq,))
        if not found:
            raise LedgerError(f"There is no entry {seq} in the ledger {self.path}; take a number from the log.")
        return next(self.entries([EventRow(**found[0])]))

    def entries(self, events: Iterable[EventRow]) -> Iterator[Entry]:
        """The same of many events, in their order, read a few hundred at a time."""
        return entries(self, events)

    # decisions ------------------------------------------------------------------------------------

    def decisions(self, session: str = "latest") -> list[DecisionRow]:
        """The decisions of a session in order."""
        rows = self.rows("SELECT * FROM decisions WHERE session_id = ? ORDER BY number", (self.session_id(session),))
        return [self.decision(row) for row in rows]

    def decision(self, row: dict[str, Any]) -> DecisionRow:
        """The record of a row of decisions; raises ``LedgerError`` where its session is strange."""
        refuse_strange_id(row["session_id"], self.path)
        shapings = {name: self.object(row[name]) for name in ("shaping_from", "shaping_to")}
        return DecisionRow(**row | shapings)

    def comparisons(self, session: str = "latest", round: int | None = None) -> list[ComparisonRow]:
        """The comparisons of a session, or of one round of it, in order."""
        where, values = event_filter(session_id=self.session_id(session), round=round)
        rows = self.rows(f"SELECT * FROM comparisons e WHERE {where} ORDER BY event_seq", values)
        return [self.comparison(row) for row in rows]

    def comparison(self, row: dict[str, Any]) -> ComparisonRow:
        """The record of a row of comparisons."""
        return ComparisonRow(**row | {name: self.object(row[name]) for name in ("inputs", "result", "settings")})

    def verdicts(self, session: str = "latest", round: int | None = None) -> list[VerdictRow]:
        """The verdicts of a session, or of one round of it, in order."""
        where, values = event_filter(session_id=self.session_id(session), round=round)
        rows = self.rows(f"SELECT * FROM verdicts e WHERE {where} ORDER BY event_seq", values)
        return [self.verdict(row) for row in rows]

    def verdict(self, row: dict[str, Any]) -> VerdictRow:
        """The record of a row of verdicts."""
        return VerdictRow(**{name: row["rule" if name == "measure" else name] for name in _OF_VERDICT})

    # training -------------------------------------------------------------------------------------

    def segments(self, session: str = "latest", ids: Iterable[str] | None = None) -> dict[str, SegmentRow]:
        """The segments a session used, or these of them, by id, in the order they were started."""
        return training.segments(self, self.session_id(session), ids)

    def main_run(self, session: str = "latest") -> list[MainRunRow]:
        """The moves of HEAD in order."""
        return training.main_run(self, self.session_id(session))

    def lineage(self, session: str = "latest") -> list[SegmentRow]:
        """The segments HEAD rests on, oldest first."""
        return training.lineage(self, self.session_id(session))

    def evaluations(
        self, session: str = "latest", segment: str | None = None, episode_set: str | None = None
    ) -> list[EvaluationRow]:
        """Evaluations, in order of segment and env steps; None for a filter leaves it out."""
        return training.evaluations(self, self.session_id(session), segment, episode_set)

    def costs(self, session: str = "latest") -> Costs:
        """What a session has used so far."""
        return costs.costs(self, self.session_id(session))


_OF_VERDICT = tuple(field.name for field in fields(VerdictRow))


def _true_status(row: dict[str, Any]) -> str:
    """The stored status, or interrupted where the process that should be running is gone."""
    if row["status"] != "running" or process_lives(row["host"], row["pid"], row["heartbeat_at"]):
        return str(row["status"])
    return "interrupted"
