"""The report of a replay: what was reproduced, or where it left its original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from learning_signal.viewer.text import clean, duration, styled

MOST_LINES = 60
"""Lines of a difference that are shown."""
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def render_replay(replay: Mapping[str, Any], kept: str | None) -> Group:
    """The result of a replay (plain data of ``agents.replay.session.Replayed``); ``kept`` is its log, where kept."""
    parts: list[RenderableType] = []
    counts = f"{_of(replay, 'decisions', 'decision')}, {_of(replay, 'requests', 'reply', 'replies')} reproduced"
    found = replay["divergence"]
    if found is None:
        parts.append(Text.assemble((counts, "bold green"), f" of session {clean(replay['session'])}"))
        if replay["stopped"]:
            parts.append(Text(f"as far as the session went: {clean(replay['stopped'])}"))
    else:
        at = "" if found["event"] is None else f" at event {found['event']}"
        parts.append(
            Text(f"The replay leaves session {clean(replay['session'])}{at}: {clean(found['sentence'])}", "bold red")
        )
        parts.append(Text(counts))
    parts.append(Text(_times(replay)))
    if found is not None and found["lines"]:
        parts += [Text(), *difference(found["lines"])]
    if kept is not None:
        parts.append(Text.assemble("the log of the replay is ", styled(kept)))
    return Group(*parts)


def difference(lines: Sequence[str]) -> list[Text]:
    """The lines of a difference, at most ``MOST_LINES``."""
    shown = [Text(_indented(line), _STYLES.get(line[:1], ""), overflow="fold") for line in lines[:MOST_LINES]]
    if len(lines) > MOST_LINES:
        shown.append(Text(f"… {len(lines) - MOST_LINES} more lines; --json has them all", "dim"))
    return shown


def _indented(line: str) -> str:
    """A line made safe, but as far to the right as it stood."""
    mark, rest = line[:1], line[1:]
    return f"{clean(mark)}{' ' * (len(rest) - len(rest.lstrip(' ')))}{clean(rest)}"


def _of(replay: Mapping[str, Any], what: str, one: str, many: str | None = None) -> str:
    done, total = replay[what], replay[f"of_{what}"]
    counted = f"{done}" if done == total else f"{done} of {total}"
    return f"{counted} {one if total == 1 else many or what}"


def _times(replay: Mapping[str, Any]) -> str:
    model, own = replay["model_seconds"], replay["seconds"]
    share = f", {own / model:.1%} of it" if own < model else ""  # embedded backends take no time
    return f"the models took {duration(model)}, the replay {own:.1f} s{share}"
