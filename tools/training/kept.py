"""What a session left in files, held against its record: checkpoints in a store, and an exported policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import Finding
from learning_signal.marl.segments.segment import SegmentStore

if TYPE_CHECKING:  # loads torch, so only when it is needed
    from learning_signal.marl.policies.files import PolicyDescription


@dataclass(frozen=True)
class Held:
    """Files that were held against the record."""

    findings: list[Finding]
    checkpoints: int = 0
    """Those that were compared."""
    unchecked: tuple[str, ...] = ()
    """What could not be compared, one sentence each."""
    belongs: str | None = None
    """Which policy of the record this is, as a sentence; None where it is none."""


def hold_checkpoints(reader: Query, store: SegmentStore) -> Held:
    """The checkpoints in ``store`` of every segment of the log."""
    rows = reader.rows(
        "SELECT session_id, id, checkpoint FROM segments WHERE status = 'ok' AND env_steps > 0 ORDER BY rowid"
    )
    findings, computed, gone = [], dict[str, str](), 0
    for row in rows:
        path = store.checkpoint_path(row["id"])
        if row["checkpoint"] is None:
            continue
        if row["id"] not in computed and not path.is_file():
            gone += 1
            continue
        if row["id"] not in computed:
            with path.open("rb") as file:
                computed[row["id"]] = hashlib.file_digest(file, "sha256").hexdigest()
        if computed[row["id"]] != row["checkpoint"]:
            problem = f"the checkpoint {path} is not the one that session {row['session_id']} wrote"
            findings.append(Finding("segments", row["id"], problem))
    unknown = sum(row["checkpoint"] is None for row in rows)
    unchecked = []
    if gone:
        unchecked.append(f"{gone} of {len(rows)} checkpoints: they are not in {store.root}.")
    if unknown:
        unchecked.append(f"{unknown} of {len(rows)} checkpoints: an earlier version of this program kept no hash.")
    return Held(findings, len(computed), tuple(unchecked))


def hold_policy(reader: Query, folder: Path) -> Held:
    """An exported policy: its weights, and what its description says of them. Raises ``PolicyFileError``."""
    from learning_signal.marl.learners.weights import named_weights, weights_hash
    from learning_signal.marl.policies.files import load_policy

    loaded = load_policy(folder)
    found = reader.rows(
        "SELECT session_id, id, end_env_steps FROM segments WHERE policy = ? ORDER BY id <> ?, rowid",
        (weights_hash(named_weights(loaded.policy)), loaded.description.segment),
    )
    if not found:
        return Held([Finding("policy", str(folder), "its weights are those of no segment of this log")])
    row = found[0]
    belongs = (
        f"The policy {folder} is that of segment {row['id']} of session {row['session_id']}, after "
        f"{row['end_env_steps']:,} env steps."
    )
    problems = _false_words(reader, loaded.description, row["id"], row["end_env_steps"])
    return Held([Finding("policy", str(folder), each) for each in problems], belongs=belongs)


def _false_words(reader: Query, said: PolicyDescription, segment: str, env_steps: int) -> list[str]:
    """What a description says that the record of its segment does not."""
    problems = []
    if said.segment != segment:
        problems.append(f"its description names segment {said.segment}, its weights are those of {segment}")
    if said.env_steps != env_steps:
        problems.append(f"its description says {said.env_steps:,} env steps, the record {env_steps:,}")
    measured = said.evaluation
    rows = reader.rows("SELECT episodes, sparse_return, progress FROM evaluations WHERE segment_id = ?", (segment,))
    if (measured.episodes, measured.sparse_return, measured.progress) not in [tuple(row.values()) for row in rows]:
        problems.append(
            f"its description says a sparse return of {measured.sparse_return:.4g} over {measured.episodes} episodes, "
            "the record has no such evaluation"
        )
    return problems
