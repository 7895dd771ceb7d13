"""The configuration of a session: everything a user may set, each with one line of meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from learning_signal.ledger.wording import LEDGER
from learning_signal.marl.executors.base import ExecutorSettings
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.hyperparameters import recommended_lengths
from learning_signal.marl.settings import Fraction, Frozen, RunSettings
from learning_signal.tools.plan.budget import Budget, EnvSteps, Price
from learning_signal.tools.plan.evaluation import refuse_chosen


class DeliberationSettings(Frozen):
    """How long agents may talk."""

    candidates: Annotated[int, Field(ge=1, le=16)] = 3
    """Candidates the Generator proposes per refinement."""
    refinements: Annotated[int, Field(ge=0, le=5)] = 1
    """How often the Generator may try again in a round after a fail or an inconclusive verdict."""
    steps: Annotated[int, Field(ge=2, le=60)] = 16
    """Model calls an agent may use in one phase."""
    questions: Annotated[int, Field(ge=0, le=10)] = 3
    """Questions the Coordinator may put to the others in a round."""
    deadline: Annotated[float, Field(gt=0, le=86_400)] = 180.0
    """Seconds one model call may take, retries included."""
    evidence_tokens: Annotated[int, Field(ge=200, le=1_000_000)] = 1580
    """Most tokens of one trajectory summary."""
    critic: bool = True
    """Whether the Critic takes part; without it the Generator proposes from the stage card alone."""
    behaviour: bool = True
    """Whether the Critic may summarise trajectories; without it metrics are all the evidence there is."""
    earlier: bool = True
    """Whether Critic and Generator are told what earlier sessions of this log tried on the same task."""
    choice: bool = True
    """Whether agents choose what is confirmed: the Validator another candidate than the screen's first, or a second
    one; the Coordinator by sending the round back. Without it the screen's first is confirmed, and no other."""
    branch_tools: bool = False
    """Whether the Validator also has `launch_branch` and `read_branch`, which start and read one arm. The session
    screens, and `confirm` trains both arms and tells what they learnt, so it seldom needs them, and reads them in
    every call."""


class TriggerSettings(Frozen):
    """When a round begins. After a stage without a trigger, the next stage follows."""

    rise: Fraction = 0.02
    """Gain in sparse return below which a stage is a stall, as a fraction of the task's ``max_return``."""
    rise_progress: Fraction = 0.02
    """Gain in progress (in [0, 1]) below which a stage is a stall; judged below the competence floor."""
    solved: Fraction = 0.95
    """Sparse return, as a fraction of ``max_return``, from which a stall triggers no round: little is left to gain."""
    every: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Stages after which a round begins whatever was gained (1: after each); None disables this trigger."""


class Root(Frozen):
    """What the main run begins with in place of newly drawn weights: a segment without training in the store."""

    segment: Annotated[str, Field(pattern="^s[0-9a-f]{16}$")]
    env_steps: Annotated[int, Field(ge=0)]
    """That it was trained for before; no cost of this session."""
    of: str
    """Where it comes from, in words."""
    whole: bool
    """Whether critics and optimisers came along; else they are newly drawn."""


class SessionSettings(Frozen):
    """The complete settings of a session, as stored in the ledger and read back by a resume.

    Unset lengths default to those of ``marl.hyperparameters`` for the task, or else to those below.
    """

    run: RunSettings = RunSettings()
    """Task, learner and evaluation."""
    gate: GateSettings = GateSettings()
    """Parameters of the gate."""
    deliberation: DeliberationSettings = DeliberationSettings()
    """Limits of a deliberation."""
    trigger: Annotated[TriggerSettings, Field(validation_alias=AliasChoices("trigger", "need"))] = TriggerSettings()
    """When a round begins."""
    agents: dict[str, str] = Field(default_factory=dict)
    """Backend spec per role (resolved)."""
    agent_sources: dict[str, str] = Field(default_factory=dict)
    """Where each spec came from: command line, environment, config file or default."""
    shadows: dict[str, str] = Field(default_factory=dict)
    """By role, the spec of a backend that is asked what its agent is asked, and only written down."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the session; every other seed derives from it."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 3
    """Most rounds (deliberations); the session ends one stage after the last of them."""
    stages: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Most stages of the main run, the last one included; four times the rounds when None."""
    stage_steps: EnvSteps = 150_000
    """Env steps of a stage of the main run (rounded up to whole rollouts)."""
    branch_steps: Annotated[EnvSteps, Field(validation_alias=AliasChoices("branch_steps", "horizon"))] = 125_000
    """Env steps of a confirmation branch (rounded up to whole rollouts)."""
    approve: Literal["auto", "human"] = "auto"
    """Who approves a promotion that the Coordinator asks for."""
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Segments computed at a time; one per core (of this machine or of the Ray cluster) when None."""
    executor: ExecutorSettings = ExecutorSettings()
    """Local processes or Ray."""
    store: Path = Path("runs/segments")
    """Where segments (checkpoints and results) are kept, shared by all sessions."""
    ledger: Path = LEDGER
    """The SQLite log."""
    root: Root | None = None
    """What the main run, and its sparse twin, begin with; None: newly drawn weights. ``--from`` sets it."""
    twin: bool = False
    """Also train the sparse twin (no shaping) for the same total env steps."""
    speculate: bool = True
    """Train the control branches of a round while its agents still talk."""
    budget: Budget = Budget()
    """Limits of the whole session, resumes included."""
    prices: dict[str, Price] = Field(default_factory=dict)
    """USD per million tokens by backend, such as ``[prices."openai/gpt-4.1"]``, before those of ``tools.plan.prices``;
    embedded ones cost nothing."""

    @model_validator(mode="before")
    @classmethod
    def _measured_lengths(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        run = given.get("run", {})
        task = run.get("task") if isinstance(run, Mapping) else getattr(run, "task", None)
        return {**recommended_lengths(task), **given} if isinstance(task, str) else given

    @model_validator(mode="after")
    def _purposes_say_what_is_played(self) -> SessionSettings:
        refuse_chosen(self.run)
        return self

    @model_validator(mode="after")
    def _confirmations_can_reach_their_alpha(self) -> SessionSettings:
        self.gate.refuse_unreachable(self.confirmations)
        return self

    @property
    def confirmations(self) -> int:
        """The most confirmations of the session, among which ``gate.family_alpha`` is divided."""
        return most_confirmations(self.rounds, self.deliberation.refinements)

    @property
    def most_stages(self) -> int:
        """``stages``, or four per round, so that triggers and not the number of stages decide when rounds begin."""
        return 4 * self.rounds if self.stages is None else self.stages


def most_confirmations(rounds: int, refinements: int) -> int:
    """Confirmations of a session that confirms one candidate in every round and in every refinement of it."""
    return rounds * (1 + refinements)


def as_made(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration with what was not a setting yet when it was made."""
    gate, run = config.get("gate"), config.get("run", {})
    if not gate:
        return dict(config)
    evaluation = {"share": None, **run.get("evaluation", {})}  # a branch had as many episodes as every other set
    return {**config, "gate": {"shares": "equal", **gate}, "run": {**run, "evaluation": evaluation}}


def session_rules(config: Mapping[str, Any]) -> dict[str, Any]:
    """What each comparison of a session must say, from its stored configuration of this or an earlier version.

    ``settings`` of the gate by name; of a sequential gate ``level``, which gives the level of a confirmation from the
    level spent before it, its round and its place in the round (from 0), and ``confirmations_per_round``; of another
    one for a ``confirm`` how many confirmations share ``family_alpha``, if there is one; ``choice``, whether the
    Validator may have another candidate confirmed than the ranking's first. For ``ledger.read.verify``. A training run
    without agents compares nothing and gets {}.
    """
    gate = config.get("gate")
    if not gate:
        return {}
    if gate.get("mode") == "sequential":
        settings, rounds = GateSettings.model_validate(as_made(config)["gate"]), config["rounds"]
        each = 1 + config["deliberation"]["refinements"]

        def level(spent: float, number: int, place: int) -> float:
            return settings.level(spent, max(rounds - number, 0) * each + max(each - place, 1))

        choice = config["deliberation"].get("choice", True)
        return {"settings": gate, "level": level, "confirmations_per_round": each, "choice": choice}
    if gate.get("family_alpha") is None:
        return {"settings": gate, "choice": False}
    confirmations = most_confirmations(config["rounds"], config["deliberation"]["refinements"])
    return {"settings": gate, "confirm": {"confirmations": confirmations}, "choice": False}
