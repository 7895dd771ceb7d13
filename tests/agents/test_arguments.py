"""Arguments as models write them: taken where the meaning is certain, refused in plain words else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ValidationError

from learning_signal.agents.arguments.problems import SENTENCES, SYNONYMS, problems_of, readable
from learning_signal.agents.arguments.reading import parse_arguments
from learning_signal.agents.schemas import plain_schema
from learning_signal.marl.settings import Frozen
from learning_signal.tools.base import Tool, ToolRefused
from learning_signal.tools.contracts import Diagnosis, Keep, ProposalDraft, QueryMetrics
from learning_signal.tools.roles import ROLES
from learning_signal.tools.toolbox import toolbox
from tests.support.scripted_session import ScriptedSession

TERM = {"potential": "coverage_distance", "weight": -1.5, "scope": "team"}
FORECAST = {"measure": "progress", "change": 0.1, "probability": 0.6}
CANDIDATE = {"terms": [TERM], "beta": 1.0, "rationale": "Agents come closer.", "forecast": FORECAST}
DIAGNOSIS = {
    "stage": "exploring",
    "failures": [{"description": "Nobody scores.", "evidence": ["E1"]}],
    "advice": "Try.",
}


def parsed(model: type[BaseModel], arguments: Any) -> BaseModel:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return parse_arguments(Tool("the_tool", "", model, None), text)


def refusal(model: type[BaseModel], arguments: Any) -> ToolRefused:
    with pytest.raises(ToolRefused) as raised:
        parsed(model, arguments)
    return raised.value


def proposal(candidate: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [candidate]}


# what is taken ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "written", "meant"),
    [
        (ProposalDraft, proposal(CANDIDATE | {"beta": "1.0"}), proposal(CANDIDATE)),
        (ProposalDraft, proposal(CANDIDATE | {"terms": [TERM | {"weight": "-1.5"}]}), proposal(CANDIDATE)),
        (ProposalDraft, proposal(CANDIDATE | {"terms": [TERM | {"weight": "−1.5"}]}), proposal(CANDIDATE)),
        (
            ProposalDraft,
            proposal(CANDIDATE | {"forecast": FORECAST | {"change": "+0.1", "probability": " 0.6 "}}),
            proposal(CANDIDATE),
        ),
        (ProposalDraft, proposal(CANDIDATE | {"anneal_steps": "500"}), proposal(CANDIDATE | {"anneal_steps": 500})),
        (QueryMetrics, {"points": "9", "first_env_step": "100.0"}, {"points": 9, "first_env_step": 100}),
        (ProposalDraft, {"candidates": json.dumps([CANDIDATE])}, proposal(CANDIDATE)),
        (ProposalDraft, {"candidates": CANDIDATE}, proposal(CANDIDATE)),
        (ProposalDraft, proposal(CANDIDATE | {"forecast": json.dumps(FORECAST)}), proposal(CANDIDATE)),
        (ProposalDraft, str(proposal(CANDIDATE | {"anneal_steps": None})), proposal(CANDIDATE)),
        (ProposalDraft, json.dumps(json.dumps(proposal(CANDIDATE))), proposal(CANDIDATE)),
        (ProposalDraft, {"arguments": proposal(CANDIDATE)}, proposal(CANDIDATE)),
        (ProposalDraft, {"parameters": json.dumps(proposal(CANDIDATE))}, proposal(CANDIDATE)),
        (ProposalDraft, proposal(CANDIDATE | {"terms": [TERM | {"scope": "Team"}]}), proposal(CANDIDATE)),
        (
            ProposalDraft,
            proposal(CANDIDATE | {"forecast": {"metric": "Sparse return", "change": 0.1, "probability": 0.6}}),
            proposal(CANDIDATE | {"forecast": FORECAST | {"measure": "sparse_return"}}),
        ),
        (Diagnosis, DIAGNOSIS | {"stage": "Exploring"}, DIAGNOSIS),
        (Diagnosis, DIAGNOSIS | {"failures": [{"description": "Nobody scores.", "evidence": "E1"}]}, DIAGNOSIS),
        (QueryMetrics, {"names": "entropy"}, {"names": ["entropy"]}),
        (Keep, '{"reason": "two\nlines"}', {"reason": "two\nlines"}),
        (QueryMetrics, "null", {}),
    ],
)
def test_what_is_certainly_meant_is_taken(model, written, meant):
    assert parsed(model, written) == model.model_validate(meant)


@pytest.mark.parametrize("weight", ["abc", "1,5", "1.5 or 2", "", True, None, [1.5], "nan", "inf", "0x10"])
def test_what_is_no_certain_number_is_refused(weight):
    """Negative control of the numbers above."""
    said = str(refusal(ProposalDraft, proposal(CANDIDATE | {"terms": [TERM | {"weight": weight}]})))
    assert "candidate 1 (of 1), term 1 (of 1), weight: must be a" in said


# what is refused, in which words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "arguments", "says"),
    [
        (
            ProposalDraft,
            proposal(CANDIDATE | {"terms": [{"feature": "x", "weight": 1, "scope": "team"}]}),
            "feature: unknown field (did you mean potential?); known are potential, weight, scope",
        ),
        (
            ProposalDraft,
            {"candidates": [CANDIDATE, CANDIDATE, CANDIDATE | {"forecast": "up"}]},
            'candidate 3 (of 3), forecast: must be an object with the fields measure, change, probability, not "up"',
        ),
        (ProposalDraft, {"candidates": []}, "candidates: must have at least 1 item"),
        (
            ProposalDraft,
            proposal(CANDIDATE | {"terms": [TERM | {"scope": "both"}]}),
            'term 1 (of 1), scope: must be one of team, agent, not "both"',
        ),
        (Diagnosis, DIAGNOSIS | {"advise": "Try."}, "advise: unknown field (did you mean advice?); known are stage"),
        (
            Diagnosis,
            DIAGNOSIS | {"failures": [{"description": "x", "evidence": ["E1", "the entropy"]}]},
            'failure 1 (of 1), evidence 2 (of 2): must be an evidence id such as E1, not "the entropy"',
        ),
        (QueryMetrics, {"points": 50}, "points: must be at most 40, not 50"),
        (QueryMetrics, {"points": 2.5}, "points: must be a whole number, not 2.5"),
        (Keep, {"reason": "x" * 5000}, "reason: has 5000 characters, at most 4000 are taken: write less"),
        (Keep, {}, "reason: missing"),
        (Keep, {"reason": None}, "reason: must be text, not null"),
        (Keep, [1], "the arguments of the_tool are a list"),
    ],
)
def test_a_refusal_says_what_to_do(model, arguments, says):
    assert says in str(refusal(model, arguments))


def test_a_list_whose_items_are_wrong_is_not_called_too_short():
    wrong = CANDIDATE | {"beta": -1}
    refused = refusal(ProposalDraft, {"candidates": [wrong, CANDIDATE, wrong]})
    assert "at least 1 item" not in str(refused) and str(refused).count("must be at least 0, not -1") == 2
    assert refused.fields == {"code": "arguments", "refused": [1, 3]}


def test_many_problems_are_counted():
    with pytest.raises(ValidationError) as raised:
        Keep.model_validate({f"y{n}": n for n in range(20)})
    said = readable(problems_of(raised.value, Keep, {}))
    assert said.count("unknown field") == 7 and said.endswith("; and 13 more")


def test_synonyms_name_fields_that_some_tool_has():
    fields = {name for model in argument_models() for name in model.model_fields}
    assert set(SYNONYMS.values()) <= fields


# every argument model --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    with ScriptedSession(folder, lambda spec: (0.0, 0.0)) as session:
        yield [tool for role in ROLES for tool in toolbox(session.context, role)]


def argument_models() -> list[type[Frozen]]:
    """Every argument model of the tools' contracts."""
    import learning_signal.tools.contracts as contracts

    found = [each for each in vars(contracts).values() if isinstance(each, type) and issubclass(each, Frozen)]
    return [each for each in found if each is not Frozen and each.__module__ == contracts.__name__]


def _fields(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema with its path, those of nested objects too."""
    if isinstance(schema, list):
        for item in schema:
            yield from _fields(item, where)
    elif isinstance(schema, dict):
        for name, field in schema.get("properties", {}).items():
            yield f"{where}.{name}", field
            yield from _fields(field, f"{where}.{name}")
        for key in ("items", "anyOf", "prefixItems"):
            yield from _fields(schema.get(key), where)


def test_every_field_of_every_tool_is_described(tools):
    undescribed = [
        path for tool in tools for path, field in _fields(plain_schema(tool.arguments), tool.name) if not _said(field)
    ]
    assert undescribed == []


def _said(field: dict[str, Any]) -> bool:
    return bool(field.get("description", "").strip())


def _texts(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a text inside ``schema``, with its path."""
    if isinstance(schema, list):
        for item in schema:
            yield from _texts(item, where)
    elif isinstance(schema, dict):
        if schema.get("type") == "string":
            yield where, schema
        for key, value in schema.items():
            yield from _texts(value, f"{where}.{key}")


def test_every_text_that_a_model_writes_is_bounded(tools):
    """A refusal quotes what it found, and the log keeps it."""
    unbounded = [
        path
        for tool in tools
        for path, text in _texts(tool.arguments.model_json_schema(), tool.name)
        if not {"enum", "const", "pattern", "maxLength"} & set(text)
    ]
    assert unbounded == []


def test_an_undescribed_field_is_found():
    """Negative control: a field without a docstring."""

    class Bare(Frozen):
        kind: Literal["a"]

    assert [path for path, field in _fields(plain_schema(Bare), "bare") if not _said(field)] == ["bare.kind"]


WRONG: tuple[Any, ...] = (
    None, True, "", "abc", "12345678901234567890123", 10**30, -(10**30), 0.5, -1, 99, 1e308,
    float("nan"), [], [None], [[]], [{}], {}, {"no such": 1}, ["x"] * 100, "x" * 20_000, "\ud800",
)  # fmt: skip
"""What may stand where something else is expected."""


def _valid(schema: dict[str, Any]) -> Any:
    """Some value that fits a schema, so that the fields beside a wrong one are right."""
    if "anyOf" in schema:
        return _valid(schema["anyOf"][0])
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if kind == "object":
        return {name: _valid(each) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [_valid(schema["items"])]
    text = "E1" if "pattern" in schema else "x"
    return {"string": text, "boolean": True, "number": 0.5, "integer": schema.get("minimum", 1)}.get(kind)


def _mutations(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """``value`` with one wrong thing at each of its places."""
    yield from WRONG
    if isinstance(value, dict):
        yield value | {"no such field": 1}
        for name, inner in value.items():
            yield {key: each for key, each in value.items() if key != name}
            inside = schema.get("properties", {}).get(name, {})
            for wrong in _mutations(inside, inner):
                yield value | {name: wrong}
    elif isinstance(value, list):
        for wrong in _mutations(schema.get("items", {}), value[0]):
            yield [wrong]


def test_every_kind_of_error_has_a_sentence_of_ours(tools):
    """No word of pydantic reaches a model, whatever stands in place of a field of any tool."""
    met: set[str] = set()
    for model in {tool.arguments for tool in tools}:
        schema = plain_schema(model)
        for wrong in _mutations(schema, _valid(schema)):
            try:
                model.model_validate(wrong if isinstance(wrong, dict) else {"value": wrong})
            except ValidationError as error:
                met |= {each["type"] for each in error.errors()}
                said = readable(problems_of(error, model, wrong))
                for words in (
                    "Input",
                    "input should",
                    "instance",
                    "tuple",
                    "dictionary",
                    "String",
                    "valid ",
                    "pydantic",
                ):
                    assert words not in said, said
    assert met <= set(SENTENCES), met - set(SENTENCES)
    assert {"missing", "extra_forbidden", "float_parsing", "literal_error", "tuple_type", "too_long"} <= met
