"""A session as OpenTelemetry spans in OTLP JSON, by the semantic conventions for generative AI (1.41, in development).

The session is a workflow; in it are its rounds, in these its phases as invocations of agents, and in these the model
calls and the executions of tools. Decisions, verdicts and comparisons are events of their round. Prompts and replies
are left out: they are opt-in content, and the log has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import EventRow, SessionRow
from learning_signal.viewer.exports.atif import NAME

INTERNAL, CLIENT, FAILED = 1, 3, 2
"""Kinds of spans, and the status code of an error, as OTLP numbers them."""
SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
TOLD = ("decision", "verdict", "comparison", "diagnosis", "proposal", "approval", "probation", "need")
"""Kinds of events of the log that are events of the span they lie in."""
CALLS = ("llm_call", "tool_call")

Span = dict[str, Any]


def spans(reader: Reader, session: str = "latest") -> dict[str, Any]:
    """An ``ExportTraceServiceRequest``: what a collector takes at ``/v1/traces``."""
    row = reader.session(session)
    events = reader.events(row.id)
    made = [_workflow(row, events)]
    by_round: dict[int | None, list[EventRow]] = {}
    for event in events:
        by_round.setdefault(event.round, []).append(event)
    calls = {call["event_seq"]: call for kind in CALLS for call in _calls(reader, row.id, f"{kind}s")}
    for round_, inside in by_round.items():
        above = made[0]["spanId"]
        if round_ is not None:
            made.append(_round(row, round_, inside))
            above = made[-1]["spanId"]
        for agent, spoken in _phases(inside):
            invoked = _invocation(row, above, agent, spoken, calls)
            made.append(invoked)
            made += [_call(row, invoked["spanId"], event, calls[event.seq]) for event in spoken if event.seq in calls]
    scope = {"scope": {"name": NAME, "version": row.code_version}, "spans": made, "schemaUrl": SCHEMA}
    resource = {"attributes": _attributes({"service.name": NAME})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope], "schemaUrl": SCHEMA}]}


def _calls(reader: Reader, session: str, table: str) -> Iterable[dict[str, Any]]:
    return reader.rows(f"SELECT * FROM {table} WHERE session_id = ?", (session,))


def _phases(events: Sequence[EventRow]) -> list[tuple[str, list[EventRow]]]:
    """Who spoke in which phase of a round, with its events in order."""
    found: dict[tuple[str | None, str], list[EventRow]] = {}
    for event in events:
        if event.kind in CALLS and event.agent is not None:
            found.setdefault((event.phase, event.agent), []).append(event)
    return [(agent, inside) for (_, agent), inside in found.items()]


def _workflow(row: SessionRow, events: Sequence[EventRow]) -> Span:
    ends = [row.ended_at or row.heartbeat_at, *(each.ended_at or each.started_at for each in events[-1:])]
    attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": NAME,
        "gen_ai.conversation.id": row.id,
        "learning_signal.task": row.task,
        "learning_signal.algorithm": row.algorithm,
        "learning_signal.seed": row.seed,
        "learning_signal.status": row.status,
        "learning_signal.seal": row.seal,
    }
    outside = [each for each in events if each.round is None]
    return _span(row, "session", None, f"invoke_workflow {NAME}", (row.started_at, max(ends)), attributes, outside)


def _round(row: SessionRow, round_: int, events: Sequence[EventRow]) -> Span:
    between = (events[0].started_at, max(each.ended_at or each.started_at for each in events))
    attributes = {"gen_ai.conversation.id": row.id, "learning_signal.round": round_}
    return _span(row, f"R{round_}", _number(row, "session"), f"round {round_}", between, attributes, events)


def _invocation(
    row: SessionRow, above: str, agent: str, events: Sequence[EventRow], calls: Mapping[int, Mapping[str, Any]]
) -> Span:
    asked = [calls[event.seq] for event in events if event.kind == "llm_call" and event.seq in calls]
    between = (events[0].started_at, max(each.ended_at or each.started_at for each in events))
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": agent,
        "gen_ai.conversation.id": row.id,
        "gen_ai.provider.name": _provider(asked[0]) if asked else NAME,
        "gen_ai.request.model": asked[0]["model_requested"] if asked else None,
        "learning_signal.round": events[0].round,
        "learning_signal.phase": events[0].phase,
    }
    name = f"{events[0].round}/{events[0].phase}/{agent}"
    return _span(row, name, above, f"invoke_agent {agent}", between, attributes)


def _call(row: SessionRow, above: str, event: EventRow, call: Mapping[str, Any]) -> Span:
    """One attempt of a model call, or one execution of a tool."""
    between = (event.started_at, event.ended_at or event.started_at)
    attributes = {
        "gen_ai.conversation.id": row.id,
        "gen_ai.agent.name": call["agent"],
        "learning_signal.event": event.seq,
    }
    failed = event.status in ("error", "refused", "interrupted")
    if event.kind == "tool_call":
        attributes |= {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call["name"],
            "gen_ai.tool.call.id": call["call_id"],
            "gen_ai.tool.type": "function",
            "error.type": event.status if failed else None,
        }
        made = _span(row, f"#{event.seq}", above, f"execute_tool {call['name']}", between, attributes)
    else:
        attributes |= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _provider(call),
            "gen_ai.request.model": call["model_requested"],
            "gen_ai.response.model": call["model_served"],
            "gen_ai.response.finish_reasons": None if call["finish_reason"] is None else [call["finish_reason"]],
            "gen_ai.usage.input_tokens": call["tokens_in"],
            "gen_ai.usage.output_tokens": call["tokens_out"],
            "gen_ai.usage.cache_read.input_tokens": call["tokens_cached"],
            "gen_ai.usage.reasoning.output_tokens": call["tokens_reasoning"],
            "learning_signal.attempt": call["attempt"],
            "learning_signal.cost_usd": call["cost_usd"],
            "error.type": (call["error_kind"] or event.status) if failed else None,
        }
        made = _span(row, f"#{event.seq}", above, f"chat {call['model_requested']}", between, attributes, kind=CLIENT)
    if failed:
        made["status"] = {"code": FAILED, "message": event.title}
    return made


def _provider(call: Mapping[str, Any]) -> str:
    """The provider of a backend: what stands before the first slash of its spec."""
    return str(call["spec"]).partition("/")[0].partition("?")[0]


def _span(
    row: SessionRow,
    name: str,
    above: str | None,
    title: str,
    between: tuple[str, str],
    attributes: Mapping[str, Any],
    told: Iterable[EventRow] = (),
    kind: int = INTERNAL,
) -> Span:
    span: Span = {
        "traceId": hashlib.sha256(row.id.encode()).hexdigest()[:32],
        "spanId": _number(row, name),
        "name": title,
        "kind": kind,
        "startTimeUnixNano": _nanoseconds(between[0]),
        "endTimeUnixNano": _nanoseconds(max(between)),
        "attributes": _attributes(attributes),
    }
    if above is not None:
        span["parentSpanId"] = above
    events = [_event(each) for each in told if each.kind in TOLD]
    return span | {"events": events} if events else span


def _number(row: SessionRow, name: str) -> str:
    return hashlib.sha256(f"{row.id}/{name}".encode()).hexdigest()[:16]


def _event(event: EventRow) -> dict[str, Any]:
    told = {"learning_signal.title": event.title, "learning_signal.event": event.seq}
    return {
        "timeUnixNano": _nanoseconds(event.started_at),
        "name": f"learning_signal.{event.kind}",
        "attributes": _attributes(told | {"learning_signal.status": event.status}),
    }


def _nanoseconds(time: str) -> str:
    """A time of the log as OTLP writes one: nanoseconds since 1970, as text."""
    since = datetime.fromisoformat(time).astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return str((since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000)


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}
