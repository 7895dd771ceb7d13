"""The tools by which a program outside asks a session for something: a proposal, a round. It only writes the inbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mcp.server.mcpserver.exceptions import ToolError

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.inbox import REQUESTS, letters
from learning_signal.ledger.read.outside import requests_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.outside.bounded import page, whole
from learning_signal.viewer.telling import ask, when

THROUGH = "an MCP server"
"""How a session names who asks it by these tools."""


def asking_tools(ledger: Path, allowed: frozenset[str]) -> list[Callable[..., str]]:
    """The tools of ``propose`` and ``launch``, as far as they are allowed, and what belongs to either."""

    def send(kind: Literal["propose", "launch"], session: str, text: str) -> str:
        try:
            row, letter = ask(ledger, kind, session, text, THROUGH)
        except LedgerError as error:
            raise ToolError(str(error)) from None
        return whole({"request": letter.id, "session": row.id, "sent": f"{kind}: sent{when(row)}"}, "full")

    def propose(session: str, candidates: list[dict[str, Any]]) -> str:
        """Propose shapings to a session, as its Generator does with submit_proposal (see generator_context).

        Each has terms, beta, a rationale and a forecast. They are checked as the Generator's are, join its next
        proposal as further candidates from outside, and are trained and judged by the same gate. Each costs the session
        a screen branch, and a confirmation where the Validator asks for it. The answer stands in requests, under the
        id that this returns; a session that does not run reads it when it is resumed.
        """
        try:
            text = json.dumps({"candidates": candidates})
        except (ValueError, RecursionError) as error:
            raise ToolError(f"The candidates are no plain JSON ({type(error).__name__}): send plain objects.") from None
        return send("propose", session, text)

    def launch(session: str, reason: str) -> str:
        """Ask a session to begin its next round at the end of its present stage, to judge proposals that wait.

        It costs the session one of its rounds, with everything its agents say in it, and the training of a round: the
        answer in requests has its price in env steps. Without this a round begins where the session finds a reason.
        """
        return send("launch", session, reason)

    def requests(session: str = "latest", first: int = 0) -> str:
        """What was asked of a session by propose and launch, oldest first, and what it answered.

        status is sent (not read yet), waiting (for a round), accepted (as candidates, such as R2/c3: see explain and
        transcript for what becomes of them) or refused, with the reason.
        """
        if not 0 <= first < 2**63:
            raise ToolError(f"Found {first}, expected a number from 0 on, such as the one in 'next'.")
        try:
            with Reader.open(ledger) as reader:
                row = reader.session(session)
                heard: list[Any] = list(requests_of(reader, row.id))
        except LedgerError as error:
            raise ToolError(str(error)) from None
        known = {each.id for each in heard}
        sent = [each for each, _ in letters(ledger, row.id, 0) if each.kind in REQUESTS and each.id not in known]
        late = "The session ended before it read this." if row.status == "done" else None
        status = "sent" if late is None else "refused"
        heard += [
            {"id": each.id, "kind": each.kind, "by": each.by, "at": each.at, "status": status, "answer": late}
            for each in sent
        ]
        return page(heard, first, "full")

    def generator_context(session: str = "latest", part: Literal["prompt", "schema", "brief"] = "prompt") -> str:
        """What the Generator of a session knows: its prompt (task, features, limits), the schema of submit_proposal, or
        its last brief (where the run stands, the diagnosis, what was tried)."""

        def brief(reader: Reader, identity: str) -> str | None:
            rows = reader.rows(
                "SELECT b.body FROM messages m JOIN bodies b ON b.hash = m.body WHERE session_id = ? "
                "AND target = 'generator' AND type = 'task' ORDER BY m.id DESC LIMIT 1",
                (identity,),
            )
            return rows[0]["body"] if rows else None

        try:
            with Reader.open(ledger) as reader:
                identity = reader.session(session).id
                speakers = [each for each in reader.agents(identity) if each.role == "generator"]
                told = brief(reader, identity)
        except LedgerError as error:
            raise ToolError(str(error)) from None
        if not speakers or part == "brief" and told is None:
            raise ToolError(f"Session {identity} has no {part} of the Generator yet: ask again once it has begun.")
        if part == "schema":
            return whole([tool for tool in speakers[-1].tools if tool.get("name") == "submit_proposal"], "full")
        return whole({part: speakers[-1].prompt if part == "prompt" else told}, "full")

    tools: dict[str, Callable[..., str]] = {"propose": propose, "launch": launch}
    given = [tool for name, tool in tools.items() if name in allowed]
    return [*given, requests, generator_context] if given else []
