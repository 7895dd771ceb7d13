"""Calls that a model wrote as text: understood where they name an existing tool and are unambiguous.

Read are the forms of common chat templates (``<tool_call>``, ``[TOOL_CALLS]``, ``<function=...>``, ``<|python_tag|>``),
JSON with a name and arguments (bare, fenced, or as OpenAI sends calls), ``tool(key=value)``, and a tool's name right
before the object of its arguments.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autogen_core import FunctionCall

from learning_signal.agents.arguments.text import read_json
from learning_signal.agents.model.text import one_line

NAMES = ("name", "tool", "tool_name", "function", "function_name", "action")
ARGUMENTS = ("arguments", "parameters", "args", "params", "input", "action_input", "tool_input")
BESIDE = ("type", "id", "index")
"""Other keys of a call."""

_TAGGED = re.compile(
    r"<(?P<tag>tool_call|function_call|tool_code)>(?P<inside>.*?)(?:</(?P=tag)>|\Z)"
    r"|\[TOOL_CALLS\](?P<mistral>.*)\Z"
    r"|<\|python_tag\|>(?P<python>.*)\Z"
    r"|(?P<llama><function=.*?(?:</function>|\Z))",
    re.DOTALL,
)
_FUNCTION = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([\w.-]+)>\n?(.*?)\n?(?:</parameter>|\Z)", re.DOTALL)
_OBJECT = re.compile(r"\{\s*[\"']|\{\s*\}|\[\s*\{")
_GLUE = r"[`*\"'\])}>]*\s*(?:with)?\s*(?:\[ARGS\]|Action Input|arguments|args|input)?\s*[:=(]?\s*(?:```\w*\s*)?$"
"""What may stand between a tool's name and the object of its arguments."""


@dataclass(frozen=True)
class Written:
    """What a text holds in the way of calls."""

    calls: tuple[FunctionCall, ...] = ()
    """The calls that are understood; their ids are empty."""
    beside: str = ""
    """The text without them, where any is understood."""
    problem: str = ""
    """Why nothing is understood, after "your reply"; empty where the text does not look like a call."""


@dataclass(frozen=True)
class _Found:
    """Something in the text that looks like a call, at ``start`` to ``end``."""

    start: int
    end: int
    name: str = ""
    arguments: dict[str, Any] | None = None
    problem: str = ""


def read_calls(text: str, schemas: Sequence[Mapping[str, Any]], tagged_only: bool = False) -> Written:
    """The calls in ``text`` of the tools with these ``schemas``; ``tagged_only`` those in a template's tags.

    Several calls are understood where each stands in a template's tags. Others must all name the same tool, and no
    other tool may be named after them: a model that weighs two calls has made neither.
    """
    tools = {schema["name"]: schema for schema in schemas}
    if not tools:
        return Written()
    tagged = [each for match in _TAGGED.finditer(text) for each in _of_tag(match, tools)]
    found = tagged or ([] if tagged_only else list(_of_text(text, tools)))
    problems = [each.problem for each in found if each.problem]
    if problems or not found:
        return Written(problem=problems[0] if problems else "")
    named = list(dict.fromkeys(each.name for each in found))
    if not tagged:
        after = text[found[-1].end :]
        named += [name for name in tools if name not in named and re.search(rf"\b{re.escape(name)}\b", after)]
        if len(named) > 1:
            return Written(problem=f"names {' and '.join(named)}, so it is not certain which one you call")
    calls = tuple(FunctionCall(id="", name=each.name, arguments=json.dumps(each.arguments)) for each in found)
    beside = _without(text, [(each.start, each.end) for each in found])
    return Written(calls, beside)


def known_name(name: str, tools: Sequence[str] | Mapping[str, Any]) -> str:
    """The tool that ``name`` means: itself, or the one that it ends with (``functions.keep``); else ``name``."""
    if name in tools:
        return name
    # the longest match, so that of two tools one of which ends like the other the right one is meant
    ending = [tool for tool in tools if re.search(rf"[^A-Za-z0-9]{re.escape(tool)}$", name)]
    return max(ending, key=len) if ending else name


def _of_tag(match: re.Match[str], tools: Mapping[str, Any]) -> Iterator[_Found]:
    """What the tags of a template hold."""
    start, end = match.span()
    inside = next(each for each in (match["inside"], match["mistral"], match["python"], match["llama"]) if each)
    functions = list(_FUNCTION.finditer(inside))
    if functions:
        for function in functions:
            yield _call(function[1], _parameters(function[2]), tools, start, end)
        return
    found = list(_of_text(inside, tools))
    if not found:
        found = [_Found(0, 0, problem=f"holds a {match[0][:12]!r} in which no call can be read")]
    for each in found:
        yield _Found(start, end, each.name, each.arguments, each.problem)


def _parameters(inside: str) -> Any:
    """The arguments in a ``<function=...>``: JSON, or one ``<parameter=...>`` each."""
    given = _PARAMETER.findall(inside)
    if not given:
        return inside.strip() or "{}"
    return {name: _value(text) for name, text in given}


def _value(text: str) -> Any:
    """A parameter's value: JSON where it is some, else the text."""
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return text


def _of_text(text: str, tools: Mapping[str, Any]) -> Iterator[_Found]:
    """Every object, list of objects and ``tool(...)`` of the text that is a call or looks like one."""
    position = 0
    syntax = re.compile(rf"\b({'|'.join(map(re.escape, tools))})\(")
    while True:
        candidates = [each for each in (_OBJECT.search(text, position), syntax.search(text, position)) if each]
        if not candidates:
            return
        match = min(candidates, key=lambda each: each.start())
        if match.re is syntax:
            found = _of_syntax(text, match, tools)
            found = found or _Found(match.start(), match.end())  # as in "call keep() when ...": prose
            yield from [found] if found.name or found.problem else []
            position = found.end
            continue
        value, end, problem = _json_at(text, match.start())
        if problem:
            near = [name for name in tools if name in text]
            what = f"a call of {near[0]}" if len(near) == 1 else "an object"
            yield _Found(match.start(), end, problem=f"holds {what} as text that is no valid JSON ({problem})")
            return
        yield from (_Found(match.start(), end, *each) for each in _of_value(value, text[: match.start()], tools))
        position = end


def _of_value(value: Any, before: str, tools: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None, str]]:
    """(name, arguments, problem) of each call in a JSON value."""
    if isinstance(value, list):
        for item in value:
            yield from _of_value(item, "", tools)
        return
    if not isinstance(value, dict):
        return
    inner = value.get("tool_calls", value.get("function_call"))
    if isinstance(inner, (list, dict)):
        yield from _of_value(inner, "", tools)
        return
    if isinstance(value.get("function"), dict):
        yield from _of_value(value["function"], "", tools)
        return
    adjacent = _named_before(before, tools)
    if adjacent and _fits(value, tools[adjacent]):
        yield adjacent, value, ""
        return
    key = next((each for each in NAMES if isinstance(value.get(each), str)), None)
    if key is not None and (given := _given(value, key, tools)) is not None:
        found = _call(value[key], given, tools, 0, 0)
        yield found.name, found.arguments, found.problem
    elif len(value) == 1 and known_name(next(iter(value)), tools) in tools:
        name, given = next(iter(value.items()))
        found = _call(name, given, tools, 0, 0)
        yield found.name, found.arguments, found.problem
    elif fitting := [name for name, schema in tools.items() if value and _fits(value, schema)]:
        yield "", None, f"holds arguments of {' or '.join(fitting)} as text, without the name of the tool"


def _given(value: Mapping[str, Any], key: str, tools: Mapping[str, Any]) -> Any:
    """The arguments beside a tool's name; None where the object is no call."""
    for each in ARGUMENTS:
        if each in value:
            return value[each]
    rest = {name: each for name, each in value.items() if name != key and name not in BESIDE}
    name = known_name(value[key], tools)
    return rest if name in tools and _fits(rest, tools[name]) else None


def _call(name: str, given: Any, tools: Mapping[str, Any], start: int, end: int) -> _Found:
    name = known_name(name.strip(), tools)
    if name not in tools:
        known = ", ".join(tools)
        return _Found(start, end, problem=f"holds a call of {one_line(name, 40)!r} as text, which is no tool ({known})")
    try:
        arguments = read_json(given) if isinstance(given, str) else {} if given is None else given
    except (ValueError, RecursionError) as error:
        return _Found(start, end, problem=f"holds a call of {name} as text that is no valid JSON ({error})")
    if not isinstance(arguments, dict):
        return _Found(start, end, problem=f"holds a call of {name} as text whose arguments are no object")
    return _Found(start, end, name, arguments)


def _of_syntax(text: str, match: re.Match[str], tools: Mapping[str, Any]) -> _Found | None:
    """``tool(key=value)`` or ``tool({...})``; None where that is prose."""
    for end in (each.end() for each in re.finditer(r"\)", text[match.start() :])):
        try:
            tree = ast.parse(text[match.start() : match.start() + end], mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        if not isinstance(tree, ast.Call):
            return None
        try:
            given = {word.arg: _literal(word.value) for word in tree.keywords}
            given |= _literal(tree.args[0]) if len(tree.args) == 1 else {}
        except (ValueError, TypeError):
            return None
        if len(tree.args) > 1 or not all(isinstance(name, str) for name in given):
            return None
        if not given and len(text.strip()) != end:  # "I would call look() first"
            return None
        return _Found(match.start(), match.start() + end, match[1], json.loads(json.dumps(given)))
    return None


class _Words(ast.NodeTransformer):
    """Replaces JSON's ``true``, ``false`` and ``null`` by what they are in Python."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        words = {"true": True, "false": False, "null": None}
        return ast.Constant(words[node.id]) if node.id in words else node


def _literal(node: ast.expr) -> Any:
    return ast.literal_eval(ast.fix_missing_locations(_Words().visit(node)))


def _json_at(text: str, start: int) -> tuple[Any, int, str]:
    """(value, end, problem) of the JSON, or Python literal, at ``start``."""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
        return value, end, ""
    except (ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, ValueError) else "nested too deeply"
    closing = {"{": "}", "[": "]"}[text[start]]
    for end in [each.end() for each in re.finditer(re.escape(closing), text[start:])][-1:]:
        try:
            return read_json(text[start : start + end]), start + end, ""
        except (ValueError, RecursionError):
            continue
    return None, len(text), one_line(problem, 80)


def _named_before(before: str, tools: Mapping[str, Any]) -> str:
    """The tool whose name stands right before an object; empty where none does."""
    for name in sorted(tools, key=len, reverse=True):
        if re.search(rf"\b{re.escape(name)}{_GLUE}", before[-120:], re.IGNORECASE):
            return name
    return ""


def _fits(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Whether an object has the fields of a tool's arguments: all that are needed, and no other."""
    parameters = schema["parameters"]
    return set(parameters.get("required", ())) <= set(value) <= set(parameters.get("properties", ()))


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """``text`` without these parts, and without the fences that are left empty."""
    kept, position = [], 0
    for start, end in sorted(set(spans)):
        kept.append(text[position:start])
        position = max(position, end)
    rest = "".join([*kept, text[position:]])
    return re.sub(r"```\w*\s*```", "", rest).strip()
