"""One entry of the story of a session: how an event of the ledger reads on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from learning_signal.ledger.read.records import Entry
from learning_signal.viewer.text import (
    AGENT_STYLES,
    MISSING,
    OUTCOME_STYLES,
    agent_text,
    clean,
    number,
    outcome_text,
    shaping_text,
    shorten,
)

SPOKEN_LIMIT = 600
"""Characters of one thing said that are shown as it is said; the log has all of it."""

_QUIET = {"llm_call", "segment", "branch"}
_TOLD_BY_ITS_EVENT = {
    "submit_diagnosis",
    "submit_proposal",
    "submit_validation",
    "compare_branches",
    "ask",
    "promote",
    "keep",
    "roll_back",
}
"""Tools whose success shows as what came of it: the diagnosis, the comparison, the question and its answer ..."""
_MARKS = {"comparison": "≷", "verdict": "▣", "probation": "▣", "decision": "◆", "approval": "◇"}
_WORDS = re.compile(
    r"\b(pass(?:ed)?|promoted?|held|approved|fail(?:ed)?|keep|kept|roll(?:ed)?[ _]back|regressed|rejected|inconclusive)"
    r"\b"
)


def tone(kind: str, status: str, title: str, outcome: str | None = None) -> str:
    """The style of an event's title, from its status and ``outcome``; without one, from the first such word in it."""
    if status in ("error", "refused"):
        return "red"
    if status == "interrupted":
        return "yellow"
    if kind in _MARKS:
        word = outcome or ((found := _WORDS.search(title.lower())) and found.group(1)) or ""
        return OUTCOME_STYLES.get(word.replace("_", " "), "")
    quiet, loud = ("tool_call", "llm_call", "segment", "speculation"), ("stage", "session")
    return "dim" if kind in quiet else "bold" if kind in loud else ""


def worth_a_line(row: Mapping[str, Any]) -> bool:
    """Whether an event is shown while the session runs.

    Pending events are not: they come again when they are complete. Model calls and pieces of training are only shown
    when they fail, and of the messages only what an agent or a person said.
    """
    kind, status = row["kind"], row["status"]
    if status == "pending" or (kind in _QUIET and status == "ok"):
        return False
    return kind != "message" or row.get("agent") in AGENT_STYLES


def spoken(row: Mapping[str, Any], entry: Entry | None) -> Text | None:
    """What an event is shown as while the session runs, on one or more lines, or None for one not worth a line.

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
    if kind in _MARKS:
        title = Text(f"{_MARKS[kind]} ", title.style).append_text(title)
    if reference is not None and kind == "verdict" and reference.get("reading"):
        title.append(f"\n{shorten(reference['reading'], SPOKEN_LIMIT)}", "default")
    return title


def _call(call: Mapping[str, Any]) -> Text | None:
    """A tool call on one line, or None where an event of its own tells what came of it."""
    name, result = call["name"], call.get("result")
    if name in _TOLD_BY_ITS_EVENT:
        return None
    arguments = parsed(call["arguments"])
    found = call.get("evidence_id") or _result(parsed(result))
    return Text(f"{clean(name)}({call_arguments(arguments, 60)}) → {clean(found)}", "dim")


def _result(result: Any) -> str:
    """What a tool answered, in a few words."""
    if not isinstance(result, dict):
        return shorten(str(result), 100)
    if "status" in result and isinstance(result.get("mean"), dict):
        means = (f"{name.replace('_', ' ')} {number(value)}" for name, value in result["mean"].items())
        return f"{result['status']}: {', '.join(means)}"
    return str(result["branch"]) if "branch" in result else shorten(json.dumps(result), 100)


def _message(message: Mapping[str, Any]) -> Text:
    """What was said; a question names whom it is put to, a thought is dimmed."""
    text = Text(shorten(message["body"], SPOKEN_LIMIT), "dim" if message["type"] == "thought" else "")
    if message["type"] == "question" and message["target"]:
        return Text.assemble("asks the ", agent_text(message["target"]), ": ", text)
    return text


def diagnosis_text(stage: str, body: Mapping[str, Any], limit: int = SPOKEN_LIMIT) -> Text:
    """A diagnosis: the stage, what fails with the evidence cited, and the advice, each at most ``limit`` characters."""
    text = Text.assemble("diagnosis: ", (clean(stage), "bold"))
    for failure in body.get("failures", ()):
        cited = ", ".join(clean(str(each)) for each in failure.get("evidence", ()))
        text.append(f"\n- {shorten(failure.get('description', MISSING), limit)}").append(f" [{cited}]", "dim")
    if body.get("advice"):
        text.append("\nadvice: ", "dim").append(shorten(body["advice"], limit))
    return text


def _proposal(body: Mapping[str, Any]) -> Text:
    lines = [Text("proposes")]
    for each in (each for each in body.get("candidates", ()) if isinstance(each, Mapping)):
        forecast = each.get("forecast") or {}
        line = Text.assemble((clean(str(each.get("name", MISSING))), "bold"), f"  {shaping_text(each.get('shaping'))}")
        if forecast:
            line.append(
                f"  (expects {clean(str(forecast.get('measure', forecast.get('metric', MISSING)))).replace('_', ' ')} "
                f"{number(forecast.get('change'), sign=True)}, {number(forecast.get('probability'))} sure)",
                "dim",
            )
        lines.append(line)
        if each.get("rationale"):
            lines.append(Text(f"    {shorten(each['rationale'], 300)}"))
    return Text("\n").join(lines)


def verdict_text(outcome: str, reason: str) -> Text:
    """A verdict's sentence behind its outcome, which is not said twice."""
    words = clean(reason)
    return Text.assemble(outcome_text(outcome), words[len(outcome) :] if words.startswith(outcome) else f": {words}")


def parsed(text: str | None) -> Any:
    """JSON text as data, or the text itself where it is none."""
    try:
        return None if text is None else json.loads(text)
    except json.JSONDecodeError:
        return text


def call_arguments(arguments: Any, limit: int) -> str:
    """The arguments of a tool call as ``name=value``, at most ``limit`` characters."""
    if not isinstance(arguments, dict):
        return shorten(str(arguments), limit)
    shown = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in arguments.items())
    return shorten(", ".join(shown), limit)
