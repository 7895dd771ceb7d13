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
MOST_RUNS = 6
"""An agent's runs of actions that are listed; of more, the shares of the most frequent actions are."""
MOST_SHARES = 3


def render_episode(
    episode: Episode, most_tokens: int, count: Callable[[str], int], beside: Mapping[str, Any] | None = None
) -> str:
    """The episode as a JSON object of at most ``most_tokens`` by ``count``, with as many events as fit.

    ``beside`` comes first in the object. ``ValueError`` where not even start and end fit.
    """
    text = ""
    for shown in range(min(MOST_EVENTS, len(episode.events)), -1, -1):
        text = _text(episode, shown, beside or {})
        if count(text) <= most_tokens:
            return text
    raise ValueError(
        f"The start and the end of an episode take {count(text)} tokens, expected at most {most_tokens}: "
        f"allow at least {count(text)}."
    )


def _text(episode: Episode, shown: int, beside: Mapping[str, Any]) -> str:
    told, others = episode.events[:shown], episode.events[shown:]
    lines = [f"t 0, start: {_state_words(episode.start)}"]
    for event in told:
        lines += [_stretch_words(stretch) for stretch in event.before] + _event_words(event)
    if others:
        times = ", ".join(f"t {event.first} ({_amount(event)})" for event in others)
        lines.append(f"not told: {times}")
    else:
        lines += [_stretch_words(stretch) for stretch in episode.rest]
    lines.append(f"t {episode.steps}, end: {_state_words(episode.end)}")
    body = dict(beside) | episode.model_dump(include={"episode", "sparse_return", "progress", "steps"})
    if not episode.events:
        body["note"] = "no reward and no rise of progress"
    body |= {"lines": lines, "legend": "t: step; a|b|c: agents 0, 1, 2 ..."}
    return json_text(body)


def _event_words(event: Event) -> list[str]:
    """The step that earned it with the state it was taken in, and what has changed since."""
    time = f"t {event.first}" if event.first == event.last else f"t {event.first} to {event.last}"
    changed = {name: values for name, values in event.after.items() if values != event.state[name]}
    after = f"; then {_state_words(changed)}" if changed else ""
    deeds = " | ".join(_step_words(deeds) for deeds in event.deeds)
    before = [f"t {event.first}, before: {_state_words(event.state)}"] if event.first else []  # else it is the start
    return [*before, f"{time}: {deeds} -> {_amount(event)}{after}"]


def _amount(event: Event) -> str:
    if event.by == "progress":
        return f"progress {event.amount:+.3g}"
    steps = event.last - event.first + 1
    return f"reward {event.amount:.3g}" + (f" in {steps} steps" if steps > 1 else "")


def _state_words(state: State) -> str:
    return ", ".join(f"{name} {'|'.join(f'{value:.3g}' for value in values)}" for name, values in state.items())


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
