"""The client of ``replay/SESSION``: the recorded answers of one role, found by what was asked."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autogen_core.models import CreateResult, LLMMessage

from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.providers.no_model import NoModel
from learning_signal.ledger.canonical import canonical_json, content_hash
from learning_signal.ledger.read.reader import Reader

_STEPS_LEFT = re.compile(r"\n\[[0-9]+ steps? (?:is|are) left[^\n\]]*\]$")
"""A line that models are told and embedded backends are not."""


class ReplayClient(NoModel):
    """Answers a request as the session did: the same messages and tools, whatever ids their calls have.

    The same request twice is given the answers in their order. ``LedgerError`` where there is no such session.
    """

    def __init__(self, ledger: Path, session: str, role: str) -> None:
        self._answers: dict[str, deque[str]] = defaultdict(deque)
        with Reader.open(ledger) as reader:
            self._session = reader.session_id(session)
            rows = reader.rows(
                "SELECT context, tools, reply FROM llm_calls c JOIN events e ON e.seq = c.event_seq "
                "WHERE c.session_id = ? AND c.agent = ? AND c.status = 'ok' AND e.kind <> 'shadow' ORDER BY c.id",
                (self._session, role),
            )
            for row in rows:
                messages = [reader.json(address) for address in reader.json(row["context"])]
                self._answers[_key(messages, reader.json(row["tools"]))].append(reader.body(row["reply"]))

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:
        """The recorded answer. ``BackendError`` where the session has none to this request, or no further one."""
        tools = [tool if isinstance(tool, dict) else dict(tool.schema) for tool in options.get("tools") or ()]
        answers = self._answers.get(_key([message.model_dump(mode="json") for message in messages], tools))
        if not answers:
            raise BackendError(
                "permanent",
                f"The backend 'replay/{self._session}' has no answer to this request: what the session asked was "
                "another; name another backend with --agent.",
            )
        return CreateResult.model_validate_json(answers.popleft())


def _key(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> str:
    """A hash of a request, in which calls are numbered and the lines of steps left are left out."""
    numbers: dict[str, int] = {}

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {each: plain(each, one) for each, one in value.items()}
        if isinstance(value, list):
            return [plain("", each) for each in value]
        if isinstance(value, str) and name in ("id", "call_id"):
            return numbers.setdefault(value, len(numbers))
        if isinstance(value, str) and name == "content":
            return _STEPS_LEFT.sub("", value)
        return value

    return content_hash(canonical_json([[plain("", message) for message in messages], list(tools)]))
