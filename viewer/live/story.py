"""One entry of the story of a session: how an event of the ledger reads on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from learning_signal.ledger.read.records import Entry
from learning_signal.viewer.events import MARKS, SPOKEN_LIMIT, call_arguments, diagnosis_text, parsed, tone
from learning_signal.viewer.text import AGENT_STYLES, MISSING, agent_text, clean, number, shaping_line, shorten

_QUIET = {"llm_call", "segment", "branch"}
_TOLD_BY_ITS_EVENT = {
    "submit_diagnosis",
    "submit_proposal",
    "submit_validation",
    "confirm",
    "extend_screen",
    "ask",
    "promote",
    "keep",
    "roll_back",
    "send_back",
}
"""Tools whose success shows as the event they cause: the diagnosis, the comparison, the question and its answer ..."""


def worth_a_line(row: Mapping[str, Any]) -> bool:
    """Whether an event is shown while the session runs.

    Pending events are not: they come again when they are complete. Model calls and pieces of training are only shown
    when they fail (or when a candidate is chosen over the ranking's first, with the reason), and messages only of
    agents and persons.
    """
    kind, status = row["kind"], row["status"]
    if kind == "shadow":  # nothing depends on it
        return False
    if kind == "branch" and status == "ok":
        return ", chosen over " in row["title"]
    if status == "pending" or (kind in _QUIET and status == "ok"):
        return False
    return kind != "message" or row.get("agent") in AGENT_STYLES


def spoken(row: Mapping[str, Any], entry: Entry | None) -> Text | None:
    """An event as it is shown live, on one or more lines, or None for one not worth a line.

    ``row`` has the columns of the ledger's ``events``; ``entry`` is the same event with its bodies, where it was read.
    """
    if not worth_a_line(row):
        return None
    words = _words(row, entry)
    if words is None:
        return None
    agent = row.get("agent")
    line = Text(f"{'R' + str(row['round']) if row.get('round') else '':<4}", "dim")
    line.append_text(agent_text(agent))
    line.append(" " * max(1, 12 - len(agent or "session")))
    return line.append_text(words)


def _words(row: Mapping[str, Any], entry: Entry | None) -> Text | None:
    kind, status = row["kind"], row["status"]
    reference = entry.reference if entry is not None else None
    outcome = None if reference is None else reference.get("outcome") or reference.get("action")
    title = Text(shorten(row["title"], SPOKEN_LIMIT), tone(kind, status, row["title"], outcome))
    if status in ("error", "refused"):
        return Text("✗ ", "red").append_text(title)
    if kind == "message" and entry is not None and entry.messages:
        return Text("\n").join([_message(each) for each in entry.messages])
    if kind == "tool_call" and entry is not None and entry.tool_calls:
        return _call(entry.tool_calls[-1])
    if reference is not None and kind == "diagnosis":
        return diagnosis_text(reference["stage"], json.loads(reference["body"]))
    if reference is not None and kind == "proposal":
        return _proposal(json.loads(reference["body"]))
    if kind in MARKS:
        title = Text(f"{MARKS[kind]} ", title.style).append_text(title)
    if reference is not None and kind == "verdict" and reference.get("reading"):
        title.append(f"\n“{shorten(reference['reading'], SPOKEN_LIMIT)}”", "default")
    return title


def _call(call: Mapping[str, Any]) -> Text | None:
    """A tool call on one line, or None where another event shows its outcome."""
    name, result = call["name"], call.get("result")
    if name in _TOLD_BY_ITS_EVENT:
        return None
    arguments = parsed(call["arguments"])
    found = call.get("evidence_id") or _result(parsed(result))
    return Text(f"{clean(name)}({call_arguments(arguments, 60)}) → {clean(found)}", "dim")


def _result(result: Any) -> str:
    """The answer of a tool, in a few words."""
    if not isinstance(result, dict):
        return shorten(str(result), 100)
    if "status" in result and isinstance(result.get("mean"), dict):
        means = (f"{name.replace('_', ' ')} {number(value)}" for name, value in result["mean"].items())
        return f"{result['status']}: {', '.join(means)}"
    return str(result["branch"]) if "branch" in result else shorten(json.dumps(result), 100)


def _message(message: Mapping[str, Any]) -> Text:
    """A message; a question names its addressee, a thought is dimmed."""
    text = Text(shorten(message["body"], SPOKEN_LIMIT), "dim" if message["type"] == "thought" else "")
    if message["type"] == "question" and message["target"]:
        return Text.assemble("asks the ", agent_text(message["target"]), ": ", text)
    return text


def _proposal(body: Mapping[str, Any]) -> Text:
    lines = [Text("proposes")]
    for each in (each for each in body.get("candidates", ()) if isinstance(each, Mapping)):
        forecast = each.get("forecast") or {}
        line = Text.assemble((clean(str(each.get("name", MISSING))), "bold"), f"  {shaping_line(each.get('shaping'))}")
        if forecast:
            line.append(
                f"  (expects {clean(str(forecast.get('measure', forecast.get('metric', MISSING)))).replace('_', ' ')} "
                f"{number(forecast.get('change'), sign=True)}, {number(forecast.get('probability'))} sure)",
                "dim",
            )
        lines.append(line)
        if each.get("source"):
            lines.append(Text(f"    proposed from outside, by {clean(str(each['source']))}", "bold"))
        if each.get("rationale"):
            lines.append(Text(f"    “{shorten(each['rationale'], 300)}”"))
        for remark in each.get("remarks") or ():
            lines.append(Text(f"    remark of code: {clean(str(remark.get('text', MISSING)))}", "yellow"))
        if each.get("remarks"):
            lines.append(Text(f"    answered: “{shorten(each.get('answer') or MISSING, 300)}”"))
    return Text("\n").join(lines)
