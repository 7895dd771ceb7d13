"""A training run without agents: its settings, its chain of segments and its outcome.

Every segment of the chain has the run's own seed and a segment is a pure function of its inputs, so how the run is cut
into segments changes nothing: interrupted and started again, it ends with the same weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.training import EvaluationRow
from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.executors.base import ExecutorSettings
from learning_signal.marl.files import UnreadableFile, read_text
from learning_signal.marl.gate.statistics import interval
from learning_signal.marl.segments.segment import SegmentSpec, round_up
from learning_signal.marl.segments.version import code_version
from learning_signal.marl.settings import Frozen, RunSettings
from learning_signal.marl.shaping import ShapingConfig, ShapingError, check
from learning_signal.marl.tasks import make_task
from learning_signal.tools.consent import NO_CONSENT, Consent, Use, admit, uses_of_executor, uses_of_store, uses_of_task
from learning_signal.tools.plan.budget import Budget, EnvSteps
from learning_signal.tools.plan.evaluation import evaluated_for
from learning_signal.tools.plan.settings import SessionSettings

KIND = "training"
"""The kind of these sessions in the ledger."""
LEVEL = 0.95


class TrainingError(ValueError):
    """A training run cannot start or go on; one sentence."""


class TrainingSettings(Frozen):
    """The complete settings of a training run."""

    run: RunSettings = RunSettings()
    """Task, learner and evaluation."""
    shaping: ShapingConfig = ShapingConfig.none()
    """In force from the first env step to the last."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the initial weights, the episodes and the minibatches."""
    env_steps: EnvSteps = 1_000_000
    """Env steps to train (rounded up to whole rollouts)."""
    segment_steps: EnvSteps = 100_000
    """Env steps of one segment (rounded up to whole rollouts): the most that a crash loses."""
    executor: ExecutorSettings = ExecutorSettings()
    """local: in this process; ray: on a Ray cluster. It changes no result."""
    store: Path = Path("runs/segments")
    """Where segments (checkpoints and results) are kept."""
    ledger: Path = Path("runs/ledger.db")
    """The SQLite log."""

    @classmethod
    def of(cls, common: SessionSettings, **own: Any) -> TrainingSettings:
        """The training part of a session's settings, with this run's ``own``; ``TrainingError`` for a wrong value."""
        if common.budget != Budget():
            raise TrainingError(
                f"A budget was found ({common.budget.describe()}), expected none: training without agents is "
                "limited by --steps alone; remove [budget] from the config file and LEARNING_SIGNAL_BUDGET from the "
                "environment."
            )
        shared = {name: getattr(common, name) for name in ("run", "seed", "executor", "store", "ledger")}
        try:
            return cls(**shared, **own)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name, rule = str(first["loc"][0]), first["msg"].removeprefix("Input should be ")
            raise TrainingError(f"Found {name} {first['input']!r}, expected {rule}: change it.") from None

    def chain(self) -> list[SegmentSpec]:
        """The segments of this run, each the parent of the next."""
        total = round_up(self.run, self.env_steps)
        length = round_up(self.run, self.segment_steps)
        run = evaluated_for(self.run, "training", self.seed)
        specs: list[SegmentSpec] = []
        for start in range(0, total, length):
            parent = specs[-1].id if specs else None
            steps = min(length, total - start)
            specs.append(SegmentSpec(run=run, parent=parent, shaping=self.shaping, env_steps=steps, seed=self.seed))
        return specs


def plan(settings: TrainingSettings) -> dict[str, Any]:
    """The plan of a run with these settings, as plain data; nothing is trained and no file is written.

    Raises what `train` does for an unknown task, a shaping that does not fit it and a learner that cannot learn it.
    """
    task = make_task(settings.run.task, 1).spec
    settings.run.learner.refuse(task)
    if not settings.shaping.is_none:
        check(settings.shaping, task)
    settings = settings.model_copy(update={"store": settings.store.resolve()})
    return {
        "task": task.name,
        "algorithm": settings.run.learner.algorithm,
        "seed": settings.seed,
        "shaping": shaping_text(settings.shaping.canonical()),
        "env_steps": round_up(settings.run, settings.env_steps),
        "segments": len(settings.chain()),
        "goes_on_with": unfinished(settings),
        "device": settings.run.learner.device,
        "executor": settings.executor.kind,
        "ledger": str(settings.ledger),
        "store": str(settings.store),
    }


@dataclass(frozen=True)
class TrainingOutcome:
    """The end (or pause) of a training run, as plain data."""

    session_id: str
    status: str
    """done, paused, interrupted or failed."""
    stop_reason: str | None
    task: str
    algorithm: str
    seed: int
    shaping_text: str
    env_steps: int
    """Env steps of the run that are done and stored."""
    total_env_steps: int
    """Env steps of the whole run."""
    env_steps_reused: int
    """Those of them that an earlier run had computed."""
    evaluation_env_steps: int | None
    """Env steps that evaluations played beside them; None where none were counted."""
    curve: list[dict[str, Any]]
    """Each evaluation on the confirm episodes: env_steps, sparse_return, low, high (95 %), progress, episodes."""
    wall_seconds: float
    """Summed over interruptions."""
    env_steps_per_second: float | None
    """Over the segments that were computed here, evaluation included; None where none was."""
    ledger: str

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON data."""
        return asdict(self)


def read_shaping(path: Path | None) -> ShapingConfig:
    """The shaping in a TOML file, no shaping for None; ``TrainingError`` or ``ShapingError`` in one sentence."""
    if path is None:
        return ShapingConfig.none()
    try:
        text = read_text(path)
    except UnreadableFile as error:
        raise TrainingError(f"The shaping {path} {error}.") from None
    except OSError as error:
        reason = (error.strerror or "it cannot be opened").lower()
        raise TrainingError(f"The shaping {path} cannot be read ({reason}): check the path.") from None
    try:
        return ShapingConfig.from_toml(text)
    except ShapingError as error:
        raise TrainingError(f"{path}: {error}") from None


def stored_settings(
    reader: Reader, session: str, executor: ExecutorSettings | None = None, consent: Consent = NO_CONSENT
) -> TrainingSettings:
    """The settings a training run was started with, for its resume (on another ``executor``, where one is given).

    ``TrainingError`` where this version cannot read it, ``NotTrusted`` where it is not this user's run and ``consent``
    does not cover it.
    """
    try:
        settings = TrainingSettings.model_validate(reader.config(session)).model_copy(update={"ledger": reader.path})
    except ValidationError as error:
        problem = error.errors()[0]
        raise TrainingError(
            f"Training {session} was written by another version of this program "
            f"({'.'.join(map(str, problem['loc']))}: {problem['msg']}): start it again with this one."
        ) from error
    settings = settings if executor is None else settings.model_copy(update={"executor": executor})
    admit(reader, session, uses_of_training(settings, session, consent), consent)
    return settings


def uses_of_training(settings: TrainingSettings, session: str, consent: Consent) -> list[Use]:
    """Everything that a resumed training run would use."""
    of = f"session {session}"
    return [
        *uses_of_executor(settings.executor, consent),
        *uses_of_task(settings.run.task, consent, of),
        *uses_of_store(settings.store, consent, of),
        Use("write", f"the log to {settings.ledger}"),
    ]


def unfinished(settings: TrainingSettings) -> str | None:
    """The latest session of the ledger that is the same run by the same code and is not done; None without one."""
    if not settings.ledger.exists():
        return None
    beside = {"ledger", "executor"}
    own = settings.model_dump(mode="json", exclude=beside)
    with Reader.open(settings.ledger) as reader:
        for row in reader.sessions(limit=None):
            if row.kind == KIND and row.status != "done" and row.code_version == code_version():
                stored = {name: value for name, value in reader.config(row.id).items() if name not in beside}
                if stored == own:
                    return row.id
    return None


def outcome_of(settings: TrainingSettings, session: str) -> TrainingOutcome:
    """The outcome of a training run, read from its ledger."""
    with Reader.open(settings.ledger) as reader:
        row, costs = reader.session(session), reader.costs(session)
        line = reader.lineage(session)
        evaluations = [each for part in line for each in reader.evaluations(session, part.id, episode_set="confirm")]
    computed = costs.env_steps_main
    return TrainingOutcome(
        session_id=session,
        status=row.status,
        stop_reason=row.stop_reason,
        task=settings.run.task,
        algorithm=settings.run.learner.algorithm,
        seed=settings.seed,
        shaping_text=shaping_text(settings.shaping.canonical()),
        env_steps=(line[-1].end_env_steps or 0) if line else 0,
        total_env_steps=round_up(settings.run, settings.env_steps),
        env_steps_reused=costs.env_steps_reused,
        evaluation_env_steps=known_sum((costs.evaluation_main, costs.evaluation_branches, costs.evaluation_reused)),
        curve=[_point(each) for each in evaluations],
        wall_seconds=row.wall_seconds,
        env_steps_per_second=computed / costs.compute_seconds if computed and costs.compute_seconds else None,
        ledger=str(settings.ledger),
    )


def _point(evaluation: EvaluationRow) -> dict[str, Any]:
    low, high = interval(evaluation.sparse_returns, LEVEL)
    return {
        "env_steps": evaluation.env_steps,
        "sparse_return": evaluation.sparse_return,
        "low": low,
        "high": high,
        "progress": evaluation.progress,
        "episodes": evaluation.episodes,
    }
