"""Carries out the tool calls of one agent: checked, one by one, recorded, and never raising into autogen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import FunctionExecutionResult
from autogen_core.tools import TextResultContent, ToolResult, ToolSchema, Workbench
from loguru import logger
from pydantic import BaseModel

from learning_signal.agents.arguments.reading import parse_arguments
from learning_signal.agents.history import in_view
from learning_signal.agents.model.call import CallContext
from learning_signal.agents.model.text import one_line
from learning_signal.agents.repetition import call_key, note_call, turn_of
from learning_signal.agents.schemas import tool_schema
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.write.recall import recall_call
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.base import Answer, CannotGoOn, Tool, ToolRefused
from learning_signal.tools.state import PhaseCalls

SECONDS = 600.0
"""Default time limit of one call of a tool that is not patient."""
_FIELDS = "\n"
"""Between the sentence of a refusal and its fields."""
LONGEST_RESULT = 40_000
"""Default number of characters of a result that are shown to the model."""


@dataclass(frozen=True)
class _Outcome:
    """The result of a call: ``text`` for the model, ``answer`` where the tool gave one."""

    status: str
    text: str
    answer: Answer | None = None


class ToolWorkbench(Workbench):
    """The tools of one agent in one session.

    Calls run one after the other in the order of the reply, so that evidence ids and ledger rows have one
    order. Each is a ``tool_calls`` row, pending first; what the call changes (``Answer.apply``), its row
    and ``on_done`` (the session's cursor; told which submission ended the phase, if one did) are one
    commit. A call whose id is already finished in the ledger is answered from there. The same call with the same result
    is told in a few words the second time, under the same evidence id; the third time it ends the phase (``calls``).

    No exception leaves a call, because autogen would then hang: an agent reads one
    sentence that begins with ``ERROR:``. Where the session cannot go on (the ledger fails, the disk is
    full), ``failure`` holds the exception; check it after every step.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        ledger: Ledger,
        session_id: str,
        agent: str,
        call_context: CallContext,
        next_evidence_id: Callable[[], str],
        on_done: Callable[[str | None], None] | None = None,
        calls: Callable[[], PhaseCalls] | None = None,
        timeout: float = SECONDS,
        longest_result: int = LONGEST_RESULT,
    ):
        self._tools = {tool.name: tool for tool in tools}
        if len(self._tools) != len(tools):
            raise ValueError(f"Tool names must differ, found {', '.join(tool.name for tool in tools)}.")
        self._ledger, self._session, self._agent, self._context = ledger, session_id, agent, call_context
        self._next_evidence_id, self._on_done = next_evidence_id, on_done
        own = PhaseCalls()
        self._calls = calls or (lambda: own)
        self._told_here: set[tuple[str, str]] = set()
        """(step, call) of the evidence that was told by this process."""
        self._timeout, self._longest_result = timeout, longest_result
        self.tools, self.schemas = tuple(tools), [tool_schema(tool) for tool in tools]
        self._turn = asyncio.Lock()
        self.finished: tuple[str, str] | None = None
        """(tool name, result) of the submission that ended the phase, or None while it goes on."""
        self.failure: BaseException | None = None
        """Why the session cannot go on, or None."""

    def begin_phase(self) -> None:
        """Let tools be called again after a phase has ended."""
        self.finished = None

    async def list_tools(self) -> list[ToolSchema]:
        return list(self.schemas)

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        """Carry out one call with parsed arguments; ``call`` takes them as the model wrote them."""
        written = json.dumps({} if arguments is None else arguments)
        return await self.call(name, written, cancellation_token, call_id)

    async def call(
        self, name: str, arguments: str, cancellation_token: CancellationToken | None, call_id: str | None
    ) -> ToolResult:
        """Carry out one call. ``arguments`` is the model's own text, which may be anything."""
        try:
            async with self._turn:
                outcome = await self._recorded(name, arguments, cancellation_token, call_id or "")
        except asyncio.CancelledError:  # while waiting for the turn
            outcome = _Outcome("interrupted", _interrupted(name))
        except BaseException as error:  # noqa: BLE001 - autogen hangs on anything that leaves a workbench
            self.failure = error
            outcome = _Outcome("error", f"ERROR: the session cannot go on: {_sentence(error)}")
        return ToolResult(name=name, result=[TextResultContent(content=outcome.text)], is_error=outcome.status != "ok")

    async def _recorded(self, name: str, arguments: str, token: CancellationToken | None, call_id: str) -> _Outcome:
        if self.failure is not None:
            raise self.failure
        done = recall_call(self._ledger, self._session, call_id) if call_id else None
        if done is not None and done.name == name:
            self._note_end(name, done.status, done.result)
            return _Outcome(done.status, done.result)
        row, event = self._begin(name, arguments, call_id)
        started = time.perf_counter()
        outcome = await self._carried_out(name, arguments, token)
        milliseconds = (time.perf_counter() - started) * 1000
        try:
            outcome = self._commit(name, arguments, outcome, row, event, milliseconds)
        except ToolRefused as refusal:
            outcome = self._commit(name, arguments, _refused(refusal), row, event, milliseconds)
        self._note_end(name, outcome.status, outcome.text)
        return outcome

    def _begin(self, name: str, arguments: str, call_id: str) -> tuple[int, int]:
        ledger, call_context = self._ledger, self._context
        with ledger.transaction("tool call begins"):
            event = ledger.event(
                self._session,
                "tool_call",
                f"{self._agent} calls {name}",
                round=call_context.round,
                phase=call_context.phase,
                agent=self._agent,
                status="pending",
            )
            row = ledger.add(
                "tool_calls",
                event_seq=event,
                session_id=self._session,
                round=call_context.round,
                agent=self._agent,
                call_id=call_id,
                name=name,
                arguments=arguments,
                status="pending",
            )
        return row, event

    def _commit(
        self, name: str, arguments: str, outcome: _Outcome, row: int, event: int, milliseconds: float
    ) -> _Outcome:
        """Apply what the call changes and record it as done, in one transaction."""
        tool = self._tools.get(name)
        with self._ledger.transaction(f"tool call {outcome.status}"):
            if outcome.answer is not None and outcome.answer.apply is not None:
                outcome.answer.apply()
            outcome, shown, evidence = self._told(name, arguments, outcome)
            text = self._shown(outcome.text, shown)
            title = f"{self._agent} called {name}"
            if outcome.status != "ok":
                title += f" - {outcome.status}: {one_line(text.removeprefix('ERROR: ').partition(_FIELDS)[0], 160)}"
            self._ledger.complete(
                "tool_calls", row, status=outcome.status, result=text, evidence_id=evidence, latency_ms=milliseconds
            )
            self._ledger.complete_event(event, outcome.status, title, ref=("tool_calls", row))
            if self._on_done is not None and outcome.status != "interrupted":
                ended = tool is not None and tool.ends_phase and outcome.status == "ok"
                self._on_done(name if ended else None)
        return _Outcome(outcome.status, text)

    def _told(self, name: str, arguments: str, outcome: _Outcome) -> tuple[_Outcome, str | None, str | None]:
        """The outcome as it is told, which depends on what was told before; the id of evidence, and the id if new."""
        calls, tool, step = self._calls(), self._tools.get(name), self._context.step
        if outcome.status == "interrupted" or calls.looped is not None:
            return outcome, None, None
        key = call_key(name, arguments)
        before = calls.made.get(key)
        call = note_call(calls, key, name, outcome.text, step)
        if calls.looped is not None:
            return _Outcome("refused", f"ERROR: you {calls.looped}, so your phase ends here."), None, None
        if tool is None or not tool.evidence or outcome.status != "ok":
            return outcome, None, None
        # A step that a resume takes again has not seen what it was told before.
        seen = before is not None and (before.step != step or (step, key) in self._told_here)
        known, turn = call.evidence if seen else None, turn_of(step)
        if known is not None and in_view(name, turn - call.told):
            same = {"same_as": known, "note": "nothing has changed; a third such call ends your phase"}
            return _Outcome("ok", json.dumps(same)), None, None
        evidence = known or self._next_evidence_id()
        calls.made[key] = call.model_copy(update={"evidence": evidence, "told": turn})
        self._told_here.add((step, key))
        return outcome, evidence, None if known else evidence

    async def _carried_out(self, name: str, arguments: str, token: CancellationToken | None) -> _Outcome:
        tool = self._tools.get(name)
        if tool is None:
            names = ", ".join(self._tools)
            return _Outcome("refused", f"ERROR: there is no tool '{one_line(name, 60)}'; the tools are: {names}.")
        if self.finished is not None or self._calls().looped is not None:
            how = "" if self.finished is None else f" with {self.finished[0]}"
            return _Outcome("refused", f"ERROR: the phase has ended{how}; no further tool can be called in it.")
        try:
            parsed = parse_arguments(tool, arguments)
        except ToolRefused as refusal:
            return _refused(refusal)
        except Exception as error:  # noqa: BLE001 - a check of an argument that fails is no end of the session
            return _unexpected(tool, error)
        return await self._run(tool, parsed, token)

    async def _run(self, tool: Tool, arguments: BaseModel, token: CancellationToken | None) -> _Outcome:
        running = asyncio.ensure_future(tool.call(arguments))
        if token is not None:
            token.link_future(running)
        try:
            await asyncio.wait({running}, timeout=None if tool.patient else self._timeout)
        except asyncio.CancelledError:
            await _stop(running)
            return _Outcome("interrupted", _interrupted(tool.name))
        if not running.done():
            await _stop(running)
            found = f"{tool.name} did not finish within {self._timeout:g} seconds and was stopped"
            return _Outcome("error", f"ERROR: {found}; ask for less, or go on without it.")
        if running.cancelled():
            return _Outcome("interrupted", _interrupted(tool.name))
        error = running.exception()
        if error is None:
            return self._answered(tool, running.result())
        if isinstance(error, ToolRefused):
            return _refused(error)
        if isinstance(error, (LedgerError, CannotGoOn)):
            raise error
        return _unexpected(tool, error)

    def _answered(self, tool: Tool, answer: Answer) -> _Outcome:
        if not answer.text.strip():
            return _unexpected(tool, ValueError("it returned no text"))
        if tool.evidence and not answer.text.lstrip().startswith("{"):
            return _unexpected(tool, ValueError("it is evidence and returned no JSON object"))
        return _Outcome("ok", answer.text, answer)

    def _shown(self, text: str, evidence: str | None) -> str:
        """``text`` as the model reads it: the evidence id in front, and marked where it is cut."""
        if len(text) > self._longest_result:
            cut = {
                "cut": f"the first {self._longest_result} of {len(text)} characters are shown; ask for less",
                "text": text[: self._longest_result],
            }
            text = json.dumps(cut, ensure_ascii=False)
        if evidence is None:
            return text
        rest = text.lstrip()[1:]
        separator = "" if rest.lstrip().startswith("}") else ","
        return f'{{"evidence":"{evidence}"{separator}{rest}'

    def _note_end(self, name: str, status: str, text: str) -> None:
        tool = self._tools.get(name)
        if status == "ok" and tool is not None and tool.ends_phase:
            self.finished = (name, text)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def reset(self) -> None:
        """Nothing is kept between calls but what the ledger holds."""

    async def save_state(self) -> Mapping[str, Any]:
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """There is no state."""


class ToolAgent(AssistantAgent):
    """An ``AssistantAgent`` that hands every tool call to its workbench.

    autogen answers calls of unknown tools and calls with malformed arguments itself, past the workbench:
    they would not reach the ledger.
    """

    component_provider_override = "learning_signal.agents.workbench.ToolAgent"

    @staticmethod
    async def _execute_tool_call(
        tool_call: FunctionCall,
        workbench: Sequence[Workbench],
        handoff_tools: list[Any],
        agent_name: str,
        cancellation_token: CancellationToken,
        stream: asyncio.Queue[Any],
    ) -> tuple[FunctionCall, FunctionExecutionResult]:
        bench = workbench[0]
        if not isinstance(bench, ToolWorkbench):
            raise TypeError(f"A ToolAgent needs a ToolWorkbench, got a {type(bench).__name__}.")
        result = await bench.call(tool_call.name, tool_call.arguments, cancellation_token, tool_call.id)
        answer = FunctionExecutionResult(
            content=result.to_text(), name=tool_call.name, call_id=tool_call.id, is_error=result.is_error
        )
        return tool_call, answer


async def _stop(running: asyncio.Future[Any]) -> None:
    """Cancel a tool and wait a moment for it to clean up; one that does not stop is abandoned."""
    running.cancel()
    await asyncio.wait({running}, timeout=1.0)


def _refused(refusal: ToolRefused) -> _Outcome:
    """A refusal as the model reads it: the sentence and, on a line of its own, its fields as JSON."""
    fields = _FIELDS + json.dumps(refusal.fields) if refusal.fields else ""
    text = f"ERROR: {_sentence(refusal)}{fields}"
    return _Outcome("refused", text, Answer(text, refusal.apply))


def _unexpected(tool: Tool, error: BaseException) -> _Outcome:
    logger.opt(exception=error).error("the tool {} failed", tool.name)
    found = f"{tool.name} failed ({type(error).__name__}: {one_line(str(error), 160) or 'no message'})"
    advice = "this is a fault of the tool: try other arguments, or go on without it"
    return _Outcome("error", f"ERROR: {found}; {advice}.")


def _interrupted(name: str) -> str:
    return f"ERROR: {name} was interrupted and its result is unknown."


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
