"""Episodes before and after a promotion, to be played side by side by the page's own script (static/player.js).

What comes in is plain data: a ``SideBySide`` of ``marl.behaviour.drawn.episodes``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from learning_signal.viewer.page.drawing import fragments, image, legend, ring, size
from learning_signal.viewer.page.heat import Range, colours, levels, range_of
from learning_signal.viewer.page.packed import gzipped
from learning_signal.viewer.text import clean

SIDES = ("before", "after")


@dataclass(frozen=True)
class PlayerPart:
    """The player of one promotion."""

    round: int
    episodes: int
    before: float
    after: float
    """Mean sparse returns of all recorded episodes."""
    note: str | None
    """Why there are no pictures; None where there are."""
    names: tuple[str, ...]
    """Of the episodes that can be chosen."""
    packed: str
    """What the script plays, JSON in gzip in base64."""


def player(round_number: int, episodes: Mapping[str, Any]) -> PlayerPart:
    """The player of the episodes around the promotion of a round."""
    played = {"colours": colours(), "pairs": [_pair(each) for each in episodes["pairs"]]}
    return PlayerPart(
        round=round_number,
        episodes=episodes["episodes"],
        before=episodes["before"],
        after=episodes["after"],
        note=episodes["note"] and clean(episodes["note"]),
        names=tuple(f"{each['rank']} afterwards (episode {each['episode']})" for each in episodes["pairs"]),
        packed=gzipped(json.dumps(played, separators=(",", ":"), allow_nan=False)),
    )


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    fields = [pair[side]["fields"] for side in SIDES if pair[side]["fields"]]
    bounds = range_of(values for field in fields for values in field["values"])
    sides = [_side(pair[side], bounds) for side in SIDES]
    names = list(pair["before"]["curves"])
    return {
        "length": max(pair[side]["steps"] for side in SIDES),
        "sides": sides,
        "curves": [[clean(name), *(pair[side]["curves"][name] for side in SIDES)] for name in names],
        "legend": legend(bounds, f"Phi of agent {fields[0]['agent']} (ringed) wherever it could be") if fields else "",
    }


def _side(episode: Mapping[str, Any], bounds: Range | None) -> dict[str, Any]:
    """One episode: shapes as SVG elements, frames as their places; fields as levels, a hexadecimal digit a cell."""
    scene, field = episode["scene"], episode["fields"]
    side: dict[str, Any] = {"steps": episode["steps"], "sparse_return": episode["sparse_return"], "scene": None}
    if scene is None:
        return side
    width, height = size(scene)
    side["scene"] = {
        "box": f"0 0 {width} {height}",
        "shapes": fragments(scene),
        "steps": scene["steps"],
        "frames": scene["frames"],
        "captions": [clean(each) for each in scene["captions"]],
        "rings": [ring(scene, frame) for frame in range(len(scene["steps"]))],
    }
    if field is not None and bounds is not None:
        side["field"] = {
            "steps": field["steps"],
            "columns": field["columns"],
            "levels": ["".join(f"{level:x}" for level in levels(values, bounds)) for values in field["values"]],
            "image": image(scene, field),
        }
    return side
