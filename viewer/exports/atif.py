"""A session in the Agent Trajectory Interchange Format (ATIF 1.7) of Harbor and Terminal-Bench.

The root is the session as code ran it: one step per event that decides or measures something, and one per phase, which
leads to the trajectory of its agent. Each of these is embedded and holds what the agent was told, its replies with
their tool calls and results, and its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import Entry, EventRow
from learning_signal.viewer.events import parsed

VERSION = "ATIF-v1.7"
SPOKEN = ("message", "llm_call", "tool_call")
"""Kinds of events that belong to the trajectory of an agent."""
UNTOLD = ("segment", "branch", "speculation", "shadow")
"""Kinds of events that say nothing an agent saw: training, and what other backends answered."""
NAME = "learning-signal"

Step = dict[str, Any]
Place = tuple[int | None, str | None, str]


def trajectory(reader: Reader, session: str = "latest") -> dict[str, Any]:
    """The document; every text is as it is stored."""
    row = reader.session(session)
    steps: list[Step] = []
    phases: dict[Place, list[Entry]] = {}
    for event in reader.events(row.id):
        if event.kind in SPOKEN:
            entry = reader.entry(event.seq)
            place = (event.round, event.phase, _whose(entry))
            if place not in phases:
                phases[place] = []
                steps.append(_phase(event, _name(row.id, place)))
            phases[place].append(entry)
        elif event.kind not in UNTOLD:
            steps.append(_step("system", event, event.title, extra={"event": event.seq, "kind": event.kind}))
    costs = reader.costs(row.id)
    return {
        "schema_version": VERSION,
        "session_id": row.id,
        "trajectory_id": row.id,
        "agent": {"name": NAME, "version": row.code_version, "extra": {"task": row.task, "algorithm": row.algorithm}},
        "steps": _numbered(steps),
        "final_metrics": _given(
            total_prompt_tokens=costs.tokens_in,
            total_completion_tokens=costs.tokens_out,
            total_cached_tokens=costs.tokens_cached,
            total_cost_usd=costs.cost_usd,
            total_steps=len(steps),
        ),
        "subagent_trajectories": [
            _subagent(row.id, row.code_version, place, entries) for place, entries in phases.items()
        ],
        "extra": {"status": row.status, "seed": row.seed, "seal": row.seal},
    }


def _whose(entry: Entry) -> str:
    """The agent whose conversation an event is part of: who spoke, or who was spoken to."""
    told = [each for each in entry.messages if each["source"] == "session"]
    return str(told[0]["target"] if told else entry.event.agent or "session")


def _name(session: str, place: Place) -> str:
    round_, phase, agent = place
    where = f"R{round_}" if round_ is not None else "session"
    return f"{session}/{where}/{phase or 'session'}/{agent}"


def _phase(event: EventRow, name: str) -> Step:
    """An agent is called: no model decided that."""
    result = {"subagent_trajectory_ref": [{"trajectory_id": name}]}
    return _step("agent", event, "", llm_call_count=0, observation={"results": [result]})


def _subagent(session: str, version: str, place: Place, entries: Sequence[Entry]) -> dict[str, Any]:
    calls = [call for entry in entries for call in entry.llm_calls]
    tools = parsed(calls[0]["tools"]) if calls else None
    steps: list[Step] = []
    system = _system(calls[0]) if calls else None
    if system is not None:
        steps.append(_step("system", entries[0].event, system))
    for entry in entries:
        event = entry.event
        for message in entry.messages:
            # What an agent says itself is in its reply.
            if message["source"] != place[2]:
                steps.append(_step("user", event, str(message["body"]), extra={"type": message["type"], **_of(event)}))
        steps += [_reply(event, call) for call in entry.llm_calls]
        for call in entry.tool_calls:
            if not steps or steps[-1]["source"] != "agent":  # code looks for an agent before it is asked
                steps.append(_step("agent", event, "", llm_call_count=0, extra=_of(event)))
            _add_call(steps[-1], call)
    return {
        "schema_version": VERSION,
        "session_id": session,
        "trajectory_id": _name(session, place),
        "agent": _given(
            name=place[2],
            version=version,
            model_name=_model(calls[0]) if calls else None,
            tool_definitions=[_definition(each) for each in tools] if isinstance(tools, list) else None,
        ),
        "steps": _numbered(steps),
        "final_metrics": {"total_steps": len(steps)},
    }


def _definition(tool: Any) -> dict[str, Any]:
    return {"type": "function", "function": tool if isinstance(tool, dict) else {"name": str(tool)}}


def _system(call: Mapping[str, Any]) -> str | None:
    first = parsed(call["context"][0]) if call["context"] else None
    if isinstance(first, Mapping) and first.get("type") == "SystemMessage":
        return str(first.get("content"))
    return None


def _model(call: Mapping[str, Any]) -> str:
    return str(call["model_served"] or call["model_requested"])


def _reply(event: EventRow, call: Mapping[str, Any]) -> Step:
    """A model call: its words and thought, tokens and price; why it failed, where it did."""
    reply = parsed(call["reply"])
    said = reply if isinstance(reply, Mapping) else {}
    content, thought = said.get("content"), said.get("thought")
    return _step(
        "agent",
        event,
        content if isinstance(content, str) else "",
        model_name=_model(call),
        reasoning_content=thought if isinstance(thought, str) else None,
        llm_call_count=1,
        metrics=_given(
            prompt_tokens=call["tokens_in"],
            completion_tokens=call["tokens_out"],
            cached_tokens=call["tokens_cached"],
            cost_usd=call["cost_usd"],
        ),
        extra=_of(event) | _given(attempt=call["attempt"], latency_ms=call["latency_ms"], error=call["error"]),
    )


def _add_call(step: Step, call: Mapping[str, Any]) -> None:
    """A tool call with its result, in the step that made it."""
    arguments, number = parsed(call["arguments"]), str(call["call_id"])
    extra: dict[str, Any] = {"event": call["event_seq"]}
    if not isinstance(arguments, dict):
        arguments, extra = {}, extra | {"arguments": call["arguments"]}
    made = {"tool_call_id": number, "function_name": str(call["name"]), "arguments": arguments, "extra": extra}
    step.setdefault("tool_calls", []).append(made)
    result = {"source_call_id": number, "content": call["result"], "extra": {"status": call["status"]}}
    if call["evidence_id"] is not None:
        result["extra"] |= {"evidence": call["evidence_id"]}
    step.setdefault("observation", {"results": []})["results"].append(result)


def _of(event: EventRow) -> dict[str, Any]:
    return {"event": event.seq, "status": event.status}


def _step(source: str, event: EventRow, message: str, **more: Any) -> Step:
    return {"step_id": 0, "timestamp": event.started_at, "source": source, "message": message} | _given(**more)


def _numbered(steps: list[Step]) -> list[Step]:
    for number, step in enumerate(steps, start=1):
        step["step_id"] = number
    return steps


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that are known."""
    return {name: value for name, value in fields.items() if value is not None}
