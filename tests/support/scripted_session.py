"""A session in the middle of a round over the trainer double, and what its agents would do, in short."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from learning_signal.agents.model.call import CallContext
from learning_signal.agents.workbench import ToolWorkbench
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import Finding
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.marl.segments.version import code_version
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.context import HumanAnswer, HumanQuestion, SessionContext
from learning_signal.tools.contracts import Candidate
from learning_signal.tools.plan.evaluation import branch_episodes
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings, session_rules
from learning_signal.tools.recall import recalled
from learning_signal.tools.round.record import record_round, record_stage
from learning_signal.tools.round.screens import rank_rung, run_screen
from learning_signal.tools.state import Head, Regression, SessionState, Trigger
from learning_signal.tools.toolbox import TOOL_NAMES, toolbox
from learning_signal.tools.trainer import Trainer
from tests.support.ledger_helpers import SESSION
from tests.support.trainer_double import EPISODES, Score, ScriptedPool, ScriptedStore

RUN = RunSettings(
    learner=LearnerSettings(hidden=(8,), environments=8), evaluation=EvaluationSettings(episodes=EPISODES, points=2)
)
SETTINGS = SessionSettings(
    run=RUN,
    deliberation=DeliberationSettings(questions=1, branch_tools=True),
    stage_steps=200,
    branch_steps=400,
    rounds=2,
)
"""One rollout is 200 env steps (8 environments of 25 steps): a screen is one, a branch of a confirmation two."""
PAIRED = SETTINGS.model_copy(update={"gate": GateSettings(mode="paired")})
"""The same under the gate of version 0.1: two paired seeds in the screen, five in the confirmation."""


class ScriptedSession:
    """A session with one stage trained and its first round open; use it as a context manager."""

    def __init__(
        self, folder: Path, score: Score, *, settings: SessionSettings = SETTINGS, human: HumanAnswer | None = None
    ) -> None:
        self.ledger = Ledger.open(folder / "ledger.db")
        self.pool = ScriptedPool(score)
        self.asked: list[Any] = []
        """(role, question) of every ``ask``, and every question to a person."""
        self.says: str | None = None
        """What agents answer to questions; None for a sentence without any claim."""
        self._runner = asyncio.Runner()
        self._human = human
        self._calls = 0
        self.ledger.begin_session(
            id=SESSION,
            task="spread",
            algorithm="mappo",
            seed=settings.seed,
            config=settings.model_dump(mode="json"),
            code_version=code_version(),
            gate_mode=settings.gate.mode,
            budget=settings.budget.limits(),
        )
        self.context = self._seated(settings, SessionState())
        self.train_stage()
        self.open_round()

    def __enter__(self) -> ScriptedSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.trainer.stop()
        self._runner.close()
        self.ledger.close()

    def _seated(self, settings: SessionSettings, state: SessionState) -> SessionContext:
        task = make_task(settings.run.task, 1).spec
        held_out = branch_episodes(settings.run, settings.branch_steps, task)
        trainer = Trainer(self.pool, ScriptedStore(self.pool), self.ledger, SESSION, settings.run, held_out)
        self.pool.purposes = trainer.purposes
        return SessionContext(
            session=SESSION,
            settings=settings,
            task=task,
            state=state,
            trainer=trainer,
            ledger=self.ledger,
            count_tokens=lambda text: len(text) // 3,
            ask_agent=self._ask_agent,
            ask_human=self._ask_human,
        )

    async def _ask_agent(self, role: str, question: str) -> str:
        self.asked.append((role, question))
        return self.says or f"The {role} says so."

    async def _ask_human(self, question: HumanQuestion) -> HumanAnswer:
        self.asked.append(question)
        assert self._human is not None
        return self._human

    # the session's part --------------------------------------------------------------------------

    def train_stage(self) -> None:
        """The main run goes on for one stage from HEAD, as the session's loop does it."""
        state, trainer = self.context.state, self.context.trainer
        head = state.head or Head(segment="", env_steps=0, shaping=ShapingConfig.none())
        if state.head is not None:
            self._runner.run(trainer.complete(head.segment))
        spec = trainer.spec(head.segment or None, head.shaping, self.context.stage_steps, state.round_number, "main")

        async def train() -> SegmentResult:
            return await trainer.result(trainer.launch(spec, "main", "main"))

        result = self._runner.run(train())
        with self.ledger.transaction("stage"):
            record_stage(self.context, result)

    def open_round(self, regression: Regression | None = None) -> None:
        """Begin the next round; HEAD may have been a branch until now."""
        self._runner.run(self.context.trainer.complete(self.context.head.segment))
        why = Trigger(reason="schedule", text="the test asks for it")
        with self.ledger.transaction("round"):
            record_round(self.context, "exploring", why, regression)

    def resume(self) -> None:
        """What a new process has after a stop or a kill: ledger, cursor and store, and nothing in flight."""
        self.context.trainer.stop()
        self.pool.cancel_all()
        self.context = self._seated(self.context.settings, self.recalled())

    def recalled(self) -> SessionState:
        """The state that a new process makes of cursor and rows."""
        cursor = SessionState.model_validate(self.ledger.load_cursor(SESSION))
        with Reader.open(self.ledger.path) as reader:
            return recalled(reader, SESSION, cursor, self.context.settings.gate)

    # the agents' part ----------------------------------------------------------------------------

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Carry out a call on the workbench of an agent that has the tool. The result as parsed JSON.

        A refusal is raised again, and so is what keeps the session from going on.
        """
        role = next(role for role, names in TOOL_NAMES.items() if name in names)
        workbench = ToolWorkbench(
            toolbox(self.context, role),
            ledger=self.ledger,
            session_id=SESSION,
            agent=role,
            call_context=CallContext(self.context.state.round_number, role, f"0.{self._calls}"),
            next_evidence_id=self._next_evidence_id,
        )
        self._calls += 1
        result = self._runner.run(workbench.call(name, json.dumps(arguments), None, f"call-{self._calls}"))
        self.context.state.seen = self.context.state.evidence  # every call here is a step of its own
        self.ledger.save_cursor(SESSION, self.context.state.model_dump(mode="json"))
        if workbench.failure is not None:
            raise workbench.failure
        text = result.to_text()
        if result.is_error:
            sentence, _, fields = text.removeprefix("ERROR: ").partition("\n")
            raise ToolRefused(sentence, **json.loads(fields or "{}"))
        return json.loads(text)

    def _next_evidence_id(self) -> str:
        self.context.state.evidence += 1
        return f"E{self.context.state.evidence}"

    def diagnose(self) -> None:
        """One look at the metrics, and a diagnosis that cites it."""
        evidence = self.call("query_metrics", names=["entropy"])["evidence"]
        failure = {"description": "Nobody comes near a landmark.", "evidence": [evidence]}
        self.call("submit_diagnosis", stage="exploring", failures=[failure], advice="Reward coverage.")

    def propose(self, *potentials: str) -> list[str]:
        """A diagnosis where none was made, then a proposal of one candidate per potential; their names."""
        if self.context.round.diagnosis is None:
            self.diagnose()
        return self.call("submit_proposal", candidates=[draft(potential) for potential in potentials])["accepted"]

    def screen(self, meanwhile: Coroutine[Any, Any, None] | None = None) -> dict[str, Any]:
        """Screen the candidates, as the session does before the Validator speaks; what its brief says of it."""

        async def both() -> None:
            await asyncio.gather(run_screen(self.context), *([] if meanwhile is None else [meanwhile]))

        self._runner.run(both())
        return self.screened()

    def rung(self) -> dict[str, Any]:
        """The next rung of a screen alone."""
        self._runner.run(rank_rung(self.context))
        return self.screened()

    def screened(self) -> dict[str, Any]:
        """What the Validator's brief says of the last screen."""
        found = json.loads(brief(self.context, "validator").partition("\n")[2])
        return found["screens"][-1] | {name: found[name] for name in ("extend_screen", "confirmation") if name in found}

    def confirm(self, candidate: str, reason: str = "") -> dict[str, Any]:
        """Have a candidate confirmed."""
        return self.call("confirm", candidate=candidate, reason=reason)

    def validate(self, candidate: str | None, outcome: str) -> dict[str, Any]:
        """Submit the verdict with a reading."""
        return self.call("submit_validation", candidate=candidate, outcome=outcome, reading="The seeds agree.")

    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates of the present refinement."""
        return self.context.round.proposals[-1].candidates

    def judged(self, *potentials: str) -> str:
        """A whole validation of a proposal; the computed outcome of the candidate it was about."""
        names = self.propose(*potentials)
        chosen = self.screen()["chosen"] if len(names) > 1 else names[0]
        outcome = self.confirm(chosen)["outcome"]
        self.validate(chosen, outcome)
        return outcome

    def refine(self) -> None:
        """The Generator may try again."""
        self.context.state.refinement += 1

    # afterwards ----------------------------------------------------------------------------------

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The session's rows of a table, oldest first."""
        return self.ledger.find(table, session_id=SESSION)

    def findings(self) -> list[Finding]:
        """What a verification with the gate's own statistics finds."""
        with Reader.open(self.ledger.path) as reader:
            return verify(reader, recompute, session_rules)


def draft(potential: str, weight: float = -1.0, **fields: Any) -> dict[str, Any]:
    """A candidate as a Generator writes it, with one team term and an answer to any remark."""
    return {
        "terms": [{"potential": potential, "weight": weight, "scope": "team"}],
        "beta": 1.0,
        "rationale": "It pulls the agents to the landmarks.",
        "forecast": {"measure": "progress", "change": 0.02, "probability": 0.7},
        "answer": "The test asks for it.",
    } | fields
