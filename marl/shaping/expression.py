"""Arithmetic expressions over features: a whitelist over Python's ``ast``, compiled to NumPy calls.

Grammar: numbers, declared feature names, ``+ - * /``, unary ``-``, and the calls ``abs(x)``, ``exp(x)``,
``clip(x, low, high)``, ``min(x, y)``, ``max(x, y)`` (elementwise) and ``min(x)``, ``max(x)``, ``mean(x)``
(over the agent axis, agent -> team). Nothing is ever handed to ``eval``: whatever is not listed is refused.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, cast

import numpy as np

from learning_signal.marl.tasks.base import Feature

MAX_CHARACTERS = 200
MAX_NODES = 40
MAX_NUMBER = 1e6
GRAMMAR = (
    "numbers, feature names, + - * /, unary - and the calls abs(x), exp(x), clip(x, low, high), min(x, y), "
    "max(x, y), min(x), max(x), mean(x)"
)

Scope = Literal["team", "agent"]
Evaluate = Callable[[dict[str, np.ndarray]], np.ndarray]


class ShapingError(ValueError):
    """A shaping that cannot be used; the message is one sentence: found, expected, what to do."""


@dataclass(frozen=True)
class Divisor:
    """A divisor whose range, from the declared bounds of the features, includes 0."""

    text: str
    low: float
    high: float


@dataclass(frozen=True)
class Expression:
    """A compiled expression; call it with features to get its values.

    ``low`` and ``high`` enclose every value it can take inside the declared feature bounds (interval
    arithmetic, so they may be wider than the true range); ``divisors`` lists the divisors that may be 0.
    """

    text: str
    scope: Scope
    names: tuple[str, ...]
    low: float
    high: float
    divisors: tuple[Divisor, ...]
    evaluate: Evaluate

    def __call__(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """Values ``[..., E]`` (scope team) or ``[..., E, A]`` (scope agent) in the features' own dtype.

        A bare feature name returns the caller's array itself: do not write to the result.
        """
        return self.evaluate(features)


def compile_expression(text: str, features: Sequence[Feature]) -> Expression:
    """Compile ``text`` over the declared ``features``; ``ShapingError`` if it is anything but the grammar.

    A text that is exactly a feature name is that feature, even where the name is no Python identifier.
    """
    text = text.strip()
    declared = {feature.name: feature for feature in features}
    compiler = _Compiler(text, declared)
    if text in declared:
        node = compiler.feature(text)
    else:
        node = compiler.compile(_parse(text))
    if node.scope == "number":
        _refuse(text, "no feature", "at least one declared feature", f"use {_listing(list(declared))}")
    return Expression(
        text, node.scope, tuple(compiler.names), node.low, node.high, tuple(compiler.divisors), node.evaluate
    )


def _refuse(text: str, found: str, expected: str, advice: str) -> NoReturn:
    shown = text if len(text) <= MAX_CHARACTERS else text[:40] + "..."
    shown = "".join(character if character.isprintable() else "?" for character in shown)
    raise ShapingError(f'In the potential "{shown}": found {found}, expected {expected}; {advice}.')


def _listing(names: list[str], limit: int = 40) -> str:
    if not names:
        return "nothing (this task declares no features)"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _parse(text: str) -> ast.expr:
    if len(text) > MAX_CHARACTERS:
        _refuse(text, f"{len(text)} characters", f"at most {MAX_CHARACTERS}", "split it into terms")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python merely warns about is refused below anyway
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        _refuse(text, "text that is no arithmetic expression", GRAMMAR, "rewrite it with these alone")
    nodes = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    if nodes > MAX_NODES:
        _refuse(text, f"{nodes} nodes (names, numbers, ...)", f"at most {MAX_NODES}", "split it into terms")
    return tree


@dataclass(frozen=True)
class _Node:
    """A compiled subexpression with its range; a number has ``low == high`` and is folded."""

    scope: Literal["number", "team", "agent"]
    low: float
    high: float
    evaluate: Evaluate


def _number(value: float) -> _Node:
    # Kept as a Python float, which only ever meets arrays: NumPy's promotion then leaves float32 features in float32.
    constant = cast(np.ndarray, value)
    return _Node("number", value, value, lambda features: constant)


def _lift(node: _Node, scope: Scope) -> Evaluate:
    """``node`` ready for elementwise work at ``scope``: team values get an agent axis beside agent values."""
    if node.scope == "team" and scope == "agent":
        inner = node.evaluate
        return lambda features: inner(features)[..., None]
    return node.evaluate


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    # numpy.mean costs several times as much on small arrays, and this runs at every environment step.
    mean: np.ndarray = np.add.reduce(values, axis=axis) / values.shape[axis]
    return mean


def _exp(value: float) -> float:
    return math.exp(value) if value < 709.0 else math.inf


_REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {"min": np.minimum.reduce, "max": np.maximum.reduce, "mean": _mean}
_BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
FUNCTIONS = ("abs", "exp", "clip", "min", "max", "mean")
_WORDS = {
    ast.Attribute: "an attribute",
    ast.Subscript: "an index",
    ast.Compare: "a comparison",
    ast.Lambda: "a lambda",
    ast.NamedExpr: "an assignment",
    ast.JoinedStr: "an f-string",
    ast.IfExp: "a conditional",
    ast.Starred: "a star",
    ast.BoolOp: "and/or",
    ast.Tuple: "a tuple",
    ast.List: "a list",
    ast.Dict: "a dict",
}


class _Compiler:
    """One pass over the tree; collects the features used and the divisors that may be 0."""

    def __init__(self, text: str, declared: dict[str, Feature]):
        self.text = text
        self.declared = declared
        self.names: list[str] = []
        self.divisors: list[Divisor] = []

    def compile(self, tree: ast.expr) -> _Node:
        if isinstance(tree, ast.Constant):
            return self.constant(tree)
        if isinstance(tree, ast.Name):
            return self.feature(tree.id)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            inner = self.compile(tree.operand)
            return self.elementwise(operator.neg, (inner,), -inner.high, -inner.low)
        if isinstance(tree, ast.BinOp) and type(tree.op) in _BINARY:
            return self.binary(tree)
        if isinstance(tree, ast.Call):
            return self.call(tree)
        what = _WORDS.get(type(tree), "syntax outside the grammar")
        self.refuse(f"{what} ({self.source(tree)})", GRAMMAR, "rewrite it with these alone")

    def refuse(self, found: str, expected: str, advice: str) -> NoReturn:
        _refuse(self.text, found, expected, advice)

    def source(self, tree: ast.expr) -> str:
        return ast.get_source_segment(self.text, tree) or type(tree).__name__

    def constant(self, tree: ast.Constant) -> _Node:
        if not isinstance(tree.value, (int, float)) or isinstance(tree.value, bool):
            self.refuse(f"the constant {self.source(tree)}", "real numbers", "use a plain number")
        if not abs(tree.value) <= MAX_NUMBER:  # compared as it is: a huge int does not fit a float
            self.refuse(f"the number {self.source(tree)}", f"at most {MAX_NUMBER:g}", "use a smaller one")
        return _number(float(tree.value))

    def feature(self, name: str) -> _Node:
        if name not in self.declared:
            known = list(self.declared)
            close = difflib.get_close_matches(name, known, n=1)
            advice = f'did you mean "{close[0]}"' if close else "use one of these"
            self.refuse(f'the name "{name}"', f"one of the declared features {_listing(known)}", advice)
        if name not in self.names:
            self.names.append(name)
        feature = self.declared[name]
        return _Node(feature.scope, float(feature.low), float(feature.high), operator.itemgetter(name))

    def binary(self, tree: ast.BinOp) -> _Node:
        left, right = self.compile(tree.left), self.compile(tree.right)
        ends = [(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
        if isinstance(tree.op, ast.Add):
            low, high = left.low + right.low, left.high + right.high
        elif isinstance(tree.op, ast.Sub):
            low, high = left.low - right.high, left.high - right.low
        elif isinstance(tree.op, ast.Mult):
            low, high = _enclose([a * b for a, b in ends])
            if ast.dump(tree.left) == ast.dump(tree.right):  # x * x: a square is never negative
                low = max(low, 0.0)
        else:
            low, high = self.quotient(tree, right, ends)
        function = _BINARY[type(tree.op)]
        return self.elementwise(function, (left, right), low, high)

    def quotient(self, tree: ast.BinOp, right: _Node, ends: list[tuple[float, float]]) -> tuple[float, float]:
        if right.low <= 0.0 <= right.high:
            if right.scope == "number":
                self.refuse(f"a division by 0 ({self.source(tree)})", "a divisor other than 0", "change it")
            self.divisors.append(Divisor(self.source(tree.right), right.low, right.high))
            return -math.inf, math.inf
        return _enclose([a / b for a, b in ends])

    def call(self, tree: ast.Call) -> _Node:
        name = tree.func.id if isinstance(tree.func, ast.Name) else self.source(tree.func)
        if name not in FUNCTIONS or not isinstance(tree.func, ast.Name):
            self.refuse(f"a call of {name}", "one of the calls " + ", ".join(FUNCTIONS), "use one of these")
        if tree.keywords or any(isinstance(argument, ast.Starred) for argument in tree.args):
            self.refuse(f"keyword or starred arguments of {name}", "plain arguments", "pass by position")
        allowed = {"clip": (3,), "min": (1, 2), "max": (1, 2)}.get(name, (1,))
        if len(tree.args) not in allowed:
            wanted = " or ".join(map(str, allowed))
            self.refuse(f"{len(tree.args)} arguments of {name}", f"{wanted}", "nest calls or drop arguments")
        arguments = tuple(self.compile(argument) for argument in tree.args)
        first = arguments[0]
        if name == "abs":
            low = 0.0 if first.low <= 0.0 <= first.high else min(abs(first.low), abs(first.high))
            return self.elementwise(np.abs, arguments, low, max(abs(first.low), abs(first.high)))
        if name == "exp":
            return self.elementwise(np.exp, arguments, _exp(first.low), _exp(first.high))
        if name == "clip":
            return self.clip(*arguments)
        if len(arguments) == 2:
            function, pick = (np.minimum, min) if name == "min" else (np.maximum, max)
            low, high = (pick(end) for end in zip(*((node.low, node.high) for node in arguments), strict=True))
            return self.elementwise(function, arguments, low, high)
        return self.reduce(name, first)

    def clip(self, value: _Node, low: _Node, high: _Node) -> _Node:
        if low.scope != "number" or high.scope != "number" or not low.low < high.low:
            self.refuse("other bounds of clip", "two numbers, low < high", "write clip(x, 0, 1) or alike")
        floor, ceiling = low.low, high.low
        return self.elementwise(
            lambda values: np.minimum(np.maximum(values, floor), ceiling),
            (value,),
            min(max(value.low, floor), ceiling),
            min(max(value.high, floor), ceiling),
        )

    def reduce(self, name: str, value: _Node) -> _Node:
        if value.scope != "agent":
            hint = f"give {name} an agent feature or, for min and max, two arguments"
            self.refuse(f"{name} over the agents of a {value.scope} value", "one value per agent", hint)
        reduction, inner = _REDUCTIONS[name], value.evaluate
        return _Node("team", value.low, value.high, lambda features: reduction(inner(features), axis=-1))

    def elementwise(
        self, function: Callable[..., np.ndarray], nodes: tuple[_Node, ...], low: float, high: float
    ) -> _Node:
        scopes = {node.scope for node in nodes}
        if scopes == {"number"}:
            # Intervals of numbers are points, so the range *is* the value.
            if not abs(low) <= MAX_NUMBER:
                self.refuse(f"a constant part worth {low:g}", f"at most {MAX_NUMBER:g}", "simplify it")
            return _number(float(low))
        scope: Scope = "agent" if "agent" in scopes else "team"
        low, high = (-math.inf, math.inf) if math.isnan(low) or math.isnan(high) else (low, high)
        first, *rest = (_lift(node, scope) for node in nodes)
        if rest:
            (second,) = rest
            return _Node(scope, low, high, lambda features: function(first(features), second(features)))
        return _Node(scope, low, high, lambda features: function(first(features)))


def _enclose(values: list[float]) -> tuple[float, float]:
    # 0 * infinity is NaN where a feature has no finite bound: nothing is then known about the range.
    if any(math.isnan(value) for value in values):
        return -math.inf, math.inf
    return min(values), max(values)
