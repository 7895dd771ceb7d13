"""Tests of the prompts: strict variables in both directions, stable hashes, and errors of one sentence."""

from __future__ import annotations

import re

import pytest

from learning_signal.agents.arguments.reading import parse_arguments
from learning_signal.agents.prompts import FOLDER, ROLE_VARIABLES, PromptError, render
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.contracts import Forecast
from learning_signal.tools.roles import ROLES
from learning_signal.tools.toolbox import toolbox
from tests.support.scripted_session import ScriptedSession

VARIABLES = {
    "facts": '{"task":{"description":"Push $5 of boxes."}}',
    "behaviour": "It looks.",
    "gate": "p at most 0.05",
    "steps": 16,
    "questions": 2,
}


def variables_of(role: str) -> dict[str, object]:
    return {name: VARIABLES[name] for name in ROLE_VARIABLES[role]}


def test_every_role_has_one_prompt_and_nothing_else_lies_in_the_folder():
    assert set(ROLE_VARIABLES) == set(ROLES)
    assert {path.name for path in FOLDER.iterdir()} == {f"{role}.md" for role in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_renders_every_variable_and_hashes_what_it_rendered(role):
    prompt = render(role, variables_of(role))
    for value in variables_of(role).values():
        assert str(value) in prompt.text
    again = render(role, variables_of(role))
    assert prompt == again and len(prompt.hash) == len(prompt.template_hash) == 16
    other = render(role, variables_of(role) | {"steps": 17})
    assert other.hash != prompt.hash and other.template_hash == prompt.template_hash


@pytest.mark.parametrize("role", ROLES)
def test_names_the_tool_that_ends_the_phase(role):
    ends = {
        "critic": ["submit_diagnosis"],
        "generator": ["submit_proposal"],
        "validator": ["submit_validation"],
        "coordinator": ["promote", "keep", "roll_back"],
    }[role]
    text = render(role, variables_of(role)).text
    assert all(f"`{name}`" in text for name in ends)


def test_a_missing_variable_is_refused_by_name():
    variables = variables_of("critic")
    del variables["steps"]
    with pytest.raises(PromptError, match=r"^Found .*critic\.md.* expected .*\(differing: steps\); .*\.$"):
        render("critic", variables)


def test_an_unused_variable_is_refused_by_name():
    with pytest.raises(PromptError, match=r"differing: gate"):
        render("critic", variables_of("critic") | {"gate": "x"})


def test_an_unknown_prompt_is_refused():
    with pytest.raises(PromptError, match="'referee', expected one of critic, generator, validator, coordinator"):
        render("referee", {})


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PromptError, match=r"no readable prompt file critic\.md"):
        render("critic", variables_of("critic"), tmp_path)


@pytest.mark.parametrize("text", ["$facts $behaviour", "$facts $behaviour $steps $more"])
def test_a_file_that_disagrees_with_the_declared_variables_is_refused(tmp_path, text):
    (tmp_path / "critic.md").write_text(text)
    with pytest.raises(PromptError, match="the file critic.md using"):
        render("critic", variables_of("critic"), tmp_path)


def test_a_stray_dollar_sign_is_refused(tmp_path):
    (tmp_path / "critic.md").write_text("$facts $behaviour $steps costs $ 5")
    with pytest.raises(PromptError, match="that starts no variable"):
        render("critic", variables_of("critic"), tmp_path)


def test_a_forecast_of_an_earlier_version_is_read():
    stored = {"metric": "sparse_return", "change": 0.1, "probability": 0.5}
    forecast = Forecast.model_validate(stored)
    assert forecast == Forecast(measure="sparse_return", change=0.1, probability=0.5)
    assert Forecast.model_validate(forecast.model_dump()) == forecast and "metric" not in forecast.model_dump()


EXAMPLE = re.compile(r"## An example call\n\n`(\w+)` with.*?```json\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("role", ROLES)
def test_the_example_call_of_a_prompt_is_one_that_its_tool_takes(role, tmp_path):
    ((name, arguments),) = EXAMPLE.findall((FOLDER / f"{role}.md").read_text(encoding="utf-8"))
    with ScriptedSession(tmp_path, lambda spec: (0.0, 0.0)) as session:
        tool = next(tool for tool in toolbox(session.context, role) if tool.name == name)
    assert tool.ends_phase
    assert parse_arguments(tool, arguments).model_dump(mode="json")
    with pytest.raises(ToolRefused):  # negative control
        parse_arguments(tool, arguments.replace('"', '"x', 1))
