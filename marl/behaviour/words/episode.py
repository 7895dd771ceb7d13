"""One episode as a few lines of text: start, actions up to each reward, the state before and after it, end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from learning_signal.marl.behaviour.episode import Deeds, Episode, Event, State, Stretch
from learning_signal.marl.behaviour.words.pieces import run_words
from learning_signal.marl.behaviour.words.rounding import json_text

MOST_EVENTS = 5
"""Events that are told; the times of the others are named."""
MOST_NAMED = 10
"""Events that are only named; the others are counted."""
MOST_RUNS = 6
"""An agent's runs of actions that are listed; of more, the shares of the most frequent actions are."""
MOST_SHARES = 3


def render_episode(
    episode: Episode, most_tokens: int, count: Callable[[str], int], beside: Mapping[str, Any] | None = None
) -> str:
    """The episode as a JSON object of at most ``most_tokens`` by ``count``, with as many events as fit.

    ``beside`` comes first in the object. Where not even one event fits, features are left out by halves, those first
    that move least at events. ``ValueError`` where not even one feature fits.
    """
    names, text = _telling(episode), ""
    while names:
        for shown in range(min(MOST_EVENTS, len(episode.events)), min(len(episode.events), 1) - 1, -1):
            text = _text(episode, shown, set(names), beside or {})
            if count(text) <= most_tokens:
                return text
        names = names[: len(names) // 2]
    raise ValueError(
        f"The shortest account of an episode takes {count(text)} tokens, expected at most {most_tokens}: "
        f"allow at least {count(text)}."
    )


def _telling(episode: Episode) -> list[str]:
    """The features, those first that move most at events (or from start to end), as shares of their largest value."""
    pairs = [(event.state, event.after) for event in episode.events] or [(episode.start, episode.end)]
    every = [episode.start, episode.end, *(state for pair in pairs for state in pair)]

    def movement(name: str) -> float:
        largest = max(abs(value) for state in every for value in state[name])
        moved = [abs(b - a) for before, after in pairs for a, b in zip(before[name], after[name], strict=True)]
        return max(moved) / largest if largest > 0 else 0.0

    return sorted(episode.start, key=movement, reverse=True)


def _text(episode: Episode, shown: int, names: set[str], beside: Mapping[str, Any]) -> str:
    told, others = episode.events[:shown], episode.events[shown:]
    lines = [f"t 0, start: {_state_words(episode.start, names)}"]
    for event in told:
        lines += [_stretch_words(stretch) for stretch in event.before] + _event_words(event, names)
    if others:
        times = ", ".join(f"t {event.first} ({_amount(event)})" for event in others[:MOST_NAMED])
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        lines.append(f"not told: {times}{more}")
    else:
        lines += [_stretch_words(stretch) for stretch in episode.rest]
    lines.append(f"t {episode.steps}, end: {_state_words(episode.end, names)}")
    body = dict(beside) | episode.model_dump(include={"episode", "sparse_return", "progress", "steps"})
    if not episode.events:
        body["note"] = "no reward and no rise of progress"
    if len(names) < len(episode.start):
        body["features_left_out_to_save_tokens"] = len(episode.start) - len(names)
    body |= {"lines": lines, "legend": "t: step; a|b|c: agents 0, 1, 2 ..."}
    return json_text(body)


def _event_words(event: Event, names: set[str]) -> list[str]:
    """The step that earned it with the state it was taken in, and what has changed since."""
    time = f"t {event.first}" if event.first == event.last else f"t {event.first} to {event.last}"
    changed = {name: values for name, values in event.after.items() if values != event.state[name]}
    after = f"; then {_state_words(changed, names)}" if changed.keys() & names else ""
    deeds = " | ".join(_step_words(deeds) for deeds in event.deeds)
    before = (
        [f"t {event.first}, before: {_state_words(event.state, names)}"] if event.first else []
    )  # else it is the start
    return [*before, f"{time}: {deeds} -> {_amount(event)}{after}"]


def _amount(event: Event) -> str:
    if event.by == "progress":
        return f"progress {event.amount:+.3g}"
    steps = event.last - event.first + 1
    return f"reward {event.amount:.3g}" + (f" in {steps} steps" if steps > 1 else "")


def _state_words(state: State, names: set[str]) -> str:
    """The features of ``names`` in their declared order."""
    shown = {name: "|".join(f"{value:.3g}" for value in values) for name, values in state.items() if name in names}
    return ", ".join(f"{name} {values}" for name, values in shown.items())


def _stretch_words(stretch: Stretch) -> str:
    time = f"t {stretch.first}" if stretch.first == stretch.last else f"t {stretch.first} to {stretch.last}"
    return f"{time}: {' | '.join(_deeds_words(deeds) for deeds in stretch.deeds)}"


def _step_words(deeds: Deeds) -> str:
    return deeds.runs[0][0] if deeds.runs else _deeds_words(deeds)


def _deeds_words(deeds: Deeds) -> str:
    if deeds.means:
        return ", ".join(f"{name} {value:.2g}" for name, value in deeds.means.items())
    if not deeds.runs:
        return "has left"
    if len(deeds.runs) <= MOST_RUNS:
        return run_words(deeds.runs)
    steps: Counter[str] = Counter()
    for name, length in deeds.runs:
        steps[name] += length
    return ", ".join(f"{name} {length / steps.total():.0%}" for name, length in steps.most_common(MOST_SHARES))
