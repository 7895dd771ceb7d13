"""Agents that give up or whose backends fail: what is told of them, what takes over, and what a resume makes of it."""

from __future__ import annotations

import asyncio
import io
from dataclasses import asdict

import pytest
from rich.console import Console

from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.session import run_session
from learning_signal.agents.session.troubles import ENDING
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.roles import ROLES
from learning_signal.tools.toolbox import toolbox
from learning_signal.viewer.reports.explain import render_decision
from learning_signal.viewer.reports.next_steps import after_session, command_table
from learning_signal.viewer.reports.session_end import render_report
from tests.support.scripted_server import serving, text
from tests.support.scripted_session import ScriptedSession
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.session_helpers import resume_inline as resume
from tests.support.session_helpers import run_inline as run
from tests.support.synthetic_training import InlinePool
from tests.support.weak_replies import CONFIRMS, PROMOTES, call, together

LOOPING = text("Hm.")


def shown(renderable) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def served(settings, role, *script, parameters="", **options):
    """A session in which a scripted server answers for one role; its outcome and its settings."""

    async def main():
        async with serving(*script) as server:
            spec = f"openai-api/weak@{server.address}?attempts=1{parameters}"
            changed = settings.model_copy(update={"agents": settings.agents | {role: spec}})
            observer = options.pop("observer", None) or Recorder()
            pool = InlinePool(settings.store)
            return await run_session(changed, observer=observer, executor=pool, **options), changed, server.requests

    return asyncio.run(main())


def test_the_report_says_what_happened_whose_backend_never_worked_and_what_to_type(tmp_path):
    outcome, settings, _ = served(tiny_settings(tmp_path), "critic", LOOPING)
    (trouble,) = outcome.troubles
    assert (trouble["round"], trouble["role"]) == (1, "critic")
    assert trouble["text"].endswith(
        "gave the same reply without a call 3 times: the round goes on without a diagnosis."
    )
    assert outcome.never_worked == [{"role": "critic", "backend": settings.agents["critic"]}]
    typed = after_session(asdict(outcome), settings.ledger)
    report = shown(render_report(asdict(outcome), typed))
    assert trouble["text"] in report and "never had a submission of the critic accepted" in report
    assert any("backends --check" in each and "weak@" in each for _, each in typed)
    assert any("|rules" in each for _, each in typed)
    narrow = Console(file=io.StringIO(), width=80)
    narrow.print(command_table(typed))
    assert "…" not in narrow.file.getvalue(), "a command that is cut cannot be typed"
    with Reader.open(settings.ledger) as reader:
        explained = shown(render_decision(explain(reader)))
    assert "What went wrong with agents" in explained and trouble["text"] in explained
    assert "opened to judge an earlier promotion" not in explained


def test_where_nothing_went_wrong_nothing_is_told(tmp_path):
    """Negative control."""
    settings = tiny_settings(tmp_path)
    outcome = run(settings)
    assert outcome.troubles == outcome.never_worked == []
    assert "went wrong" not in shown(render_report(asdict(outcome), after_session(asdict(outcome), settings.ledger)))


def test_a_paused_session_says_how_to_go_on_without_the_backend_that_is_down(tmp_path):
    down = "openai-api/lab/some-model@http://127.0.0.1:9/v1?attempts=1&deadline=5"
    settings = tiny_settings(tmp_path)
    settings = settings.model_copy(update={"agents": settings.agents | {"generator": down}})
    outcome = run(settings)
    assert outcome.status == "paused" and outcome.troubles[0]["text"] == outcome.stop_reason
    typed = [each for _, each in after_session(asdict(outcome), settings.ledger)]
    assert any(each.endswith("--agent generator=rules") for each in typed)


def test_the_tools_that_end_a_phase_are_known(tmp_path):
    with ScriptedSession(tmp_path, lambda spec: (0.0, 0.0)) as session:
        tools = [tool for role in ROLES for tool in toolbox(session.context, role)]
    assert {tool.name for tool in tools if tool.ends_phase} == ENDING


def test_an_agent_that_gave_up_has_spoken(tmp_path):
    ask = call("ask", '{"agent": "validator", "question": "How sure are you?"}')

    async def main():
        async with serving(LOOPING) as weak, serving(ask, PROMOTES) as coordinator:
            settings = tiny_settings(tmp_path)
            agents = {"validator": weak.address, "coordinator": coordinator.address}
            specs = {role: f"openai-api/weak@{address}?attempts=1" for role, address in agents.items()}
            settings = settings.model_copy(update={"agents": settings.agents | specs})
            await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return settings

    settings = asyncio.run(main())
    with Reader.open(settings.ledger) as reader:
        (answer,) = reader.rows("SELECT * FROM messages WHERE type = 'answer'")
        assert reader.body(answer["body"]) == "Hm."


# code in the Validator's place ------------------------------------------------------------------------------------


def judged(settings) -> list[tuple]:
    with Reader.open(settings.ledger) as reader:
        return [(each.outcome, each.candidate_id.rpartition("/")[2], each.reason) for each in reader.verdicts()]


LAUNCHES = tuple(("launch_branch", {"arm": arm, "purpose": "confirm"}) for arm in ("control", "c1"))


@pytest.mark.parametrize(
    "script",
    [(LOOPING,), (together(*LAUNCHES), LOOPING), (together(CONFIRMS), LOOPING)],
    ids=["nothing done", "confirmation begun", "confirmation judged"],
)
def test_code_judges_as_without_a_choice(tmp_path, script):
    """The same candidate and the same verdict as where agents have no choice."""
    talk = DeliberationSettings(candidates=2, refinements=0, choice=False)
    by_rules = tiny_settings(tmp_path / "rules", deliberation=talk)
    run(by_rules)
    talk = DeliberationSettings(candidates=2, refinements=0, branch_tools=True)
    _, by_code, _ = served(tiny_settings(tmp_path / "code", deliberation=talk), "validator", *script)
    assert judged(by_code) == judged(by_rules) != []
    with Reader.open(by_code.ledger) as reader:
        (verdict,) = reader.verdicts()
        (event,) = reader.events(kind="verdict")
    assert verdict.reading.startswith("(none: the Validator ") and event.agent is None


def test_what_code_was_doing_is_gone_on_with_by_a_resume(tmp_path):
    whole, cut = tiny_settings(tmp_path / "whole"), tiny_settings(tmp_path / "cut")
    _, whole, _ = served(whole, "validator", LOOPING)
    control = SessionControl()

    def abort(row):
        if row["kind"] == "branch" and "confirm" in row["title"]:
            control.abort()

    outcome, cut, _ = served(cut, "validator", LOOPING, observer=Recorder(on_event=abort), control=control)
    assert outcome.status == "interrupted"
    assert resume(cut).status == "done"
    assert judged(cut) == judged(whole) != []


# fallbacks --------------------------------------------------------------------------------------------------------


def test_a_fallback_speaks_for_the_rest_of_the_round_and_the_model_in_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "nothing helps")
    settings = tiny_settings(tmp_path, rounds=2)
    outcome, settings, requests = served(settings, "critic", LOOPING, parameters="&fallback=rules")
    with Reader.open(settings.ledger) as reader:
        critics = [(each.spec, each.source) for each in reader.agents() if each.role == "critic"]
        diagnoses = [reader.json(row["body"]) for row in reader.rows("SELECT body FROM diagnoses")]
        events = reader.events(kind="fallback")
    model = (settings.agents["critic"], "default")
    assert critics == [model, ("rules", "fallback")] * 2 and len(requests) == 6
    assert len(diagnoses) == 2 and all(each["failures"] for each in diagnoses)
    assert [each.agent for each in events] == ["critic"] * 2 and outcome.troubles[0]["text"] == events[0].title


def test_a_resume_goes_on_with_the_fallback_in_its_round_and_with_the_model_after_it(tmp_path):
    control = SessionControl()

    def pause(row):
        if row["kind"] == "fallback":
            control.request_pause()

    settings = tiny_settings(tmp_path)
    options = {"parameters": "&fallback=rules", "observer": Recorder(on_event=pause), "control": control}
    outcome, settings, _ = served(settings, "critic", LOOPING, **options)
    assert outcome.status == "paused"
    assert resume(settings).status == "done"  # the server is gone, and is not asked
    with Reader.open(settings.ledger) as reader:
        assert [each.source for each in reader.agents() if each.role == "critic"] == ["default", "fallback"]
