"""What a page draws of a session besides its log: shapings over the task's drawing, episodes around each promotion.

Positions and features are in no log. They are made again here, from the task, the seeds of the evaluation and what the
store of segments has: recorded actions or, where a promoted branch recorded none, its checkpoint. What is missing is
said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from learning_signal.ledger.origin import is_ours
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import DecisionRow
from learning_signal.marl.behaviour.drawn.episodes import side_by_side
from learning_signal.marl.behaviour.drawn.scene import Film, NotTheSame, grounded, made, survey
from learning_signal.marl.errors import EnvironmentFailed, EnvironmentRefused, SegmentFailed, UnknownTask
from learning_signal.marl.segments.late import behaviour_of, played_again
from learning_signal.marl.segments.points import seeds_of
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig, ShapingError, check
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.consent import NO_CONSENT, NOT_OURS, Consent, NotTrusted, refuse_unconfirmed, uses_of_task
from learning_signal.tools.training.policies import Trained

BEFORE = "before"
"""What the shaping in use before a round is called among its fields; the others by the id of their candidate."""


def drawings(reader: Reader, session: str = "latest", consent: Consent = NO_CONSENT) -> dict[str, Any]:
    """Plain data: ``note`` (why nothing is drawn, or None), ``start`` (a ``Scene``, or None) and ``rounds`` by number.

    A round has ``fields`` (``Fields`` at the start of an episode, for ``BEFORE`` and every candidate that is shaped),
    ``episodes`` (a ``SideBySide`` of a promotion, or None) and ``note`` (why a promotion has none, or None).
    """
    row = reader.session(session)
    decisions = reader.decisions(row.id)
    nothing: dict[str, Any] = {"note": None, "start": None, "rounds": {}}
    if not decisions:
        return nothing
    try:
        trained = Trained.model_validate(reader.config(row.id))
        uses = uses_of_task(trained.run.task, consent, f"session {row.id}")
        if not is_ours(reader.rows, row.id):
            refuse_unconfirmed(uses, consent, f"session {row.id}", NOT_OURS)
        with made(trained.run.task) as task:
            spec = task.spec
    except ValidationError:
        return nothing | {"note": "Nothing is drawn: the session was written by another version of this program."}
    except NotTrusted:
        asked = f"the environment {row.task} is code that came with this log; name it with --env to have it drawn."
        return nothing | {"note": f"Nothing is drawn: {asked}"}
    except (UnknownTask, EnvironmentFailed, EnvironmentRefused, ValueError) as error:
        return nothing | {"note": f"Nothing is drawn: {error}"}
    shapings = _shapings(reader, decisions)
    fields = _fields(trained.run, spec, (each for of_round in shapings.values() for each in of_round.values()))
    return {
        "note": None,
        "start": _start(trained.run),
        "rounds": {each.round: _round(trained, spec, each, shapings[each.round], fields) for each in decisions},
    }


def _start(run: RunSettings) -> dict[str, Any] | None:
    """The start of the first query episode; None where the task is not drawn as shapes."""
    with made(run.task) as task:
        if grounded(task) is None:
            return None
        task.reset(seeds_of(run, "query")[:1])
        film = Film(task)
        film.take(0)
    return film.scene().model_dump(mode="json")


def _shapings(reader: Reader, decisions: Sequence[DecisionRow]) -> dict[int, dict[str, str]]:
    """By round, the shapings of its candidates by their ids, and that in use before, as JSON."""
    found = {each.round: {BEFORE: json.dumps(each.shaping_from)} for each in decisions}
    rows = reader.rows(
        "SELECT c.id, b.body, p.round FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "JOIN bodies b ON b.hash = c.shaping WHERE p.session_id = ? ORDER BY p.refinement, c.rowid",
        (decisions[0].session_id,),
    )
    for row in rows:
        if row["round"] in found:
            found[row["round"]][row["id"]] = row["body"]
    return found


def _fields(run: RunSettings, spec: TaskSpec, shapings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By its JSON, Phi at the start of the first query episode: of what shapes, by what is still known."""
    potentials = {}
    for text in dict.fromkeys(shapings):
        try:
            config = ShapingConfig.parse(json.loads(text))
            if not config.is_none:
                potentials[text] = check(config, spec)
        except ShapingError:
            continue
    seed: np.uint64 = seeds_of(run, "query")[0]
    found = survey(run.task, seed, list(potentials.values()), [], (0,)) or ()
    return {text: each.model_dump(mode="json") for text, each in zip(potentials, found, strict=False)}


def _round(
    trained: Trained,
    spec: TaskSpec,
    decision: DecisionRow,
    shapings: Mapping[str, str],
    fields: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "fields": {name: fields[text] for name, text in shapings.items() if text in fields},
        "episodes": None,
        "note": None,
    }
    if decision.action != "promote":
        return drawn
    store = SegmentStore(trained.store)
    try:
        before, after = (_recorded(store, trained.run, each) for each in (decision.segment_from, decision.segment_to))
        shaping = ShapingConfig.parse(decision.shaping_to)
        drawn["episodes"] = side_by_side(trained.run, spec, before, after, shaping).model_dump(mode="json")
    except (SegmentFailed, ShapingError, NotTheSame) as error:
        drawn["note"] = f"Its episodes are not drawn: {error}"
    return drawn


def _recorded(store: SegmentStore, run: RunSettings, segment: str) -> BehaviourRecord:
    """The query episodes at the end of a segment, as stored or played again; ``SegmentFailed`` where neither can be."""
    if not store.has(segment):
        raise SegmentFailed(f"the store {store.root} does not have their segment {segment} (any more).")
    try:
        return behaviour_of(store, run, segment)
    except SegmentFailed:  # nobody looked at it before
        return played_again(store, run, segment)
