"""Where two sessions part, on a terminal of 100 columns."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from learning_signal.ledger.read.across.compare import NAMES, SessionComparison
from learning_signal.ledger.read.across.parting import Parting
from learning_signal.ledger.read.records import EventRow
from learning_signal.viewer.side_by_side import render_comparison
from learning_signal.viewer.text import agent_text, clean

MOST_LINES = 40
"""Lines of a difference that are shown; the rest are counted."""


def render_parting(found: Parting, sides: SessionComparison) -> Group:
    """Settings that differ, the first divergence, and decisions and costs side by side."""
    parts: list[RenderableType] = []
    if sides.settings:
        parts.append(Text("Configuration", "bold underline"))
        for name, values in sides.settings.items():
            parts.append(Text(f"  {clean(name)}: {clean(str(values[0]))} / {clean(str(values[1]))}"))
    parts += [Text("First divergence", "bold underline"), Padding(Group(*_divergence(found)), (0, 0, 0, 2))]
    return Group(*parts, Text("Side by side", "bold underline"), render_comparison(sides))


def _divergence(found: Parting) -> Iterator[RenderableType]:
    if found.first is None and found.second is None:
        yield Text(f"none: all {found.same} events that can be compared are the same", "green")
        return
    where = f"round {found.round}, " if found.round else ""
    yield Text(f"after {found.same} events that are the same, in {where}phase {clean(str(found.phase or '-'))}:")
    for name, event in zip(NAMES, (found.first, found.second), strict=True):
        yield _side(name, event)
    before, after = (_lines(each) for each in (found.first_said, found.second_said))
    changed = [line for line in difflib.unified_diff(before, after, *NAMES, n=1, lineterm="")][2:]
    styles = {"+": "green", "-": "red"}
    for line in changed[:MOST_LINES]:
        yield Text(clean(line[:1]) + clean(line[1:]), styles.get(line[:1], "dim"))
    if len(changed) > MOST_LINES:
        yield Text(f"and {len(changed) - MOST_LINES} more lines; 'log show' opens both events", "dim")


def _side(name: str, event: EventRow | None) -> Text:
    if event is None:
        return Text(f"{name}: has nothing more in this phase", "yellow")
    place = f"{event.session_id}#{event.seq}"
    return Text.assemble(f"{name}: ", (clean(place), "bold"), " ", agent_text(event.agent), f" {clean(event.title)}")


def _lines(said: str | None) -> list[str]:
    """What was said, a line for each piece: the JSON of a call is opened."""
    if said is None:
        return []
    try:
        name, arguments, result = json.loads(said)
    except (ValueError, TypeError, RecursionError):
        return said.splitlines()
    return [str(name), *_opened(arguments), *_opened(result)]


def _opened(text: str | None) -> list[str]:
    try:
        return json.dumps(json.loads(text or "null"), indent=1, ensure_ascii=False).splitlines()
    except (ValueError, RecursionError):
        return (text or "").splitlines()
