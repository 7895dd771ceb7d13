"""Sees calls that an agent repeats: the same result is not told twice, and a loop ends the phase."""

from __future__ import annotations

import hashlib
import json

from learning_signal.agents.arguments.text import read_json
from learning_signal.tools.state import MadeCall, PhaseCalls

MOST_TIMES = 3
"""So often the same call may find the same result; then the phase ends."""
REPLY = "(a reply without a call)"
"""Stands for the tool where a reply called none."""


def note_call(calls: PhaseCalls, key: str, name: str, result: str, step: str) -> MadeCall:
    """The call with this `call_key` as it was made now, noted in ``calls``.

    ``evidence`` is the id under which the same result was told before. Made again in the same step a call is not
    counted again: a resume may repeat a step.
    """
    known, found = calls.made.get(key), _hash(result)
    if known is None or known.result != found:
        call = MadeCall(result=found, times=1, step=step)
    else:
        call = known.model_copy(update={"times": known.times + (known.step != step), "step": step})
    calls.made[key] = call
    if call.times >= MOST_TIMES:
        what = "gave the same reply without a call" if name == REPLY else f"called {name} with the same arguments"
        same = "" if name == REPLY else f" and the same result{f' ({call.evidence})' if call.evidence else ''}"
        calls.looped = f"{what}{same} {MOST_TIMES} times"
    return call


def call_key(name: str, arguments: str) -> str:
    """A hash of tool and arguments, equal where these say the same."""
    return _hash(name, _canonical(arguments))


def turn_of(step: str) -> int:
    """The number of a step within its phase, from the name of its model call (``0.again1.3`` is 3)."""
    return int(step.rpartition(".")[2] or 0)


def _canonical(arguments: str) -> str:
    """Arguments as text that is equal where they are."""
    try:
        return json.dumps(read_json(arguments.strip() or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments.strip()


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
