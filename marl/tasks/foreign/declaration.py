"""The declaration that makes a task of a PettingZoo environment, and how a name leads to one.

``"package.module:thing"`` is enough, where ``thing`` makes a ``ParallelEnv`` (``mpe2.simple_spread_v3:parallel_env``)
or is a `ParallelTask`: a factory and whatever the spaces cannot tell. It is one record, not a set of module-level
names, so that a misspelt field is an error and no other name of the module is read by accident.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from learning_signal.marl.errors import EnvironmentFailed, EnvironmentRefused, TaskOptionError, UnknownTask
from learning_signal.marl.tasks.base import Feature
from learning_signal.marl.tasks.foreign.callables import refuse_callable, refuse_module
from learning_signal.marl.tasks.foreign.own_code import OwnCodeFailed, call, inside, phrase
from learning_signal.marl.tasks.picture import Picture
from learning_signal.marl.tasks.spellings import meant

Option = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class ParallelTask:
    """A PettingZoo ``ParallelEnv`` and what makes a task of it; all but ``factory`` may be left out.

    Every function gets the environment that ``factory`` made, in its current state, as its first argument. Language
    models read the descriptions, and the docstrings of ``sparse_reward`` and ``progress``: they know nothing else.

    Raises ``EnvironmentRefused`` where the parts do not fit together.
    """

    factory: Callable[..., Any]
    """Makes a ``ParallelEnv``; its keyword parameters are the options of the task's name."""
    description: str | None = None
    """What the agents see, do and want, in a sentence or two."""
    horizon: int | None = None
    """Steps after which an episode is cut. None: the environment's ``max_cycles``, ``max_steps`` or the like."""
    sparse_reward: Callable[[Any, dict[str, float]], float] | None = None
    """``f(env, rewards)``, the team reward of the last step; ``rewards`` are the agents' own. None: their sum."""
    max_return: float | None = None
    """Upper bound of the sparse return of one episode."""
    features: Mapping[Feature, Callable[[Any], float | Sequence[float]]] = field(default_factory=dict)
    """Team: a number. Agent: one per ``env.possible_agents``. None given: the numbers of the agents' observations."""
    progress: Callable[[Any], float] | None = None
    """How far the task is done, in [0, 1]; best if it moves before the sparse reward does."""
    action_names: tuple[str, ...] = ()
    """One per action (of the agent that has most), or per number of a continuous action."""
    idle_action: int | None = None
    """The action that does nothing, counted from 0."""
    heuristic: Callable[[Any], Mapping[str, Any]] | None = None
    """A scripted policy: an action of the environment for every agent in ``env.agents``."""
    draw: Callable[[Any], Picture] | None = None
    """What it looks like: shapes in coordinates of its own, in a picture of one size for all states."""
    new_each_episode: bool = False
    """Make a new environment for every episode: for those whose ``reset`` leaves something behind."""

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        for feature in self.features:
            if names.count(feature.name) > 1:
                raise EnvironmentRefused(
                    f"Feature {feature.name!r} is declared more than once, expected one of each name: rename one."
                )
            if not (math.isfinite(feature.low) and math.isfinite(feature.high) and feature.low < feature.high):
                raise EnvironmentRefused(
                    f"Feature {feature.name!r} has bounds {feature.low:g} to {feature.high:g}, expected finite ones, "
                    "the lower first: give the range that its values keep."
                )
            if feature.scope not in ("team", "agent"):
                raise EnvironmentRefused(
                    f"Feature {feature.name!r} has the scope {feature.scope!r}, expected 'team' or 'agent': choose one."
                )
        if self.horizon is not None and self.horizon < 1:
            raise EnvironmentRefused(f"horizon is {self.horizon}, expected at least 1: give the steps of an episode.")
        for name, function in (("sparse_reward", self.sparse_reward), ("progress", self.progress)):
            if function is not None and not inspect.getdoc(function):
                raise EnvironmentRefused(
                    f"The {name} function has no docstring, expected one sentence on what it measures: write it, "
                    "the language models read it."
                )


def at(moment: tuple[int, int] | None) -> str:
    """Where in which episode (seed, step), in words; nothing for None."""
    return "" if moment is None else f" at step {moment[1]} of the episode with seed {moment[0]}"


def kind(answer: Any) -> str:
    """What an environment returned, in a word or two."""
    return f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"


def meaning(function: Callable[..., Any]) -> str:
    """The first paragraph of a function's docstring, as one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


@dataclass(frozen=True)
class Source:
    """Where copies of an environment come from."""

    name: str
    """The canonical name: options sorted."""
    task: ParallelTask
    options: Mapping[str, Option]

    def make(self, **more: Option) -> Any:
        """A new ``ParallelEnv``; raises ``EnvironmentFailed`` where its factory does not give one."""
        try:
            env = call("the factory", None, self.task.factory, **{**self.options, **more})
        except OwnCodeFailed as error:
            raise EnvironmentFailed(
                f"The factory of {self.name} failed ({error}), expected a ParallelEnv: correct it or its options."
            ) from error
        missing = [name for name in ("reset", "step", "observation_space", "action_space") if not hasattr(env, name)]
        if not getattr(env, "possible_agents", None):
            missing.append("possible_agents")
        if missing:
            raise EnvironmentFailed(
                f"The factory of {self.name} gave a {type(env).__name__} without {missing[0]}, "
                "expected a PettingZoo ParallelEnv: name a factory that makes one (often called parallel_env)."
            )
        if hasattr(env, "agent_iter") and hasattr(env, "last"):
            raise EnvironmentFailed(
                f"The factory of {self.name} gave an AECEnv, expected a ParallelEnv: wrap it in "
                "pettingzoo.utils.conversions.aec_to_parallel."
            )
        return env

    def ask(
        self, what: str, moment: tuple[int, int] | None, function: Callable[..., Any], *given: Any, **named: Any
    ) -> Any:
        """The answer of the environment's own code.

        ``what`` was asked for; ``moment`` is the seed of the episode and its step. Raises ``EnvironmentFailed``.
        """
        try:
            return call(what, moment, function, *given, **named)
        except OwnCodeFailed as error:
            raise EnvironmentFailed(
                f"{what} of {self.name} failed{at(moment)} ({error}), expected an answer: correct its code."
            ) from error

    def takes(self, option: str) -> bool:
        """Whether the factory has a keyword parameter of this name, or takes any."""
        known, anything = _parameters(self.task.factory)
        return anything or option in known


def load(name: str) -> Source:
    """What ``package.module:thing?option=value&…`` names; the module may also lie in the working directory.

    Nothing is imported or called that ``marl.tasks.foreign.callables`` refuses. Raises ``UnknownTask`` for that and
    where there is no such module or thing, ``TaskOptionError`` for an unknown, repeated or malformed option and
    ``EnvironmentFailed`` where the module fails while it is imported.
    """
    base, _, query = name.partition("?")
    module_name, _, attribute = base.partition(":")
    if not (module_name and attribute):
        raise UnknownTask(
            f"Found the environment {base!r}, expected MODULE:FACTORY: name a module and what in it makes one."
        )
    _make_working_directory_importable()
    refuse_module(module_name)
    try:
        with inside:
            thing: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _not_importable(base, error) from error
        raise UnknownTask(
            f"There is no module {error.name!r}, expected {module_name} to be installed or in {os.getcwd()}: "
            "check its spelling, or change to its folder."
        ) from error
    except EnvironmentRefused:
        raise
    except (Exception, SystemExit) as error:
        raise _not_importable(base, error) from error
    for part in attribute.split("."):
        if not hasattr(thing, part):
            raise UnknownTask(
                f"Module {module_name} has no {attribute!r}, expected the name of a factory or of a ParallelTask: "
                f"{meant(base) or f'write {module_name}:NAME with one that it defines.'}"
            )
        thing = getattr(thing, part)
    if not isinstance(thing, ParallelTask):
        refuse_callable(base, thing)
        thing = ParallelTask(factory=thing)
    options = _options(base, query, thing.factory)
    written = "&".join(f"{option}={_written(options[option])}" for option in sorted(options))
    return Source(f"{base}?{written}" if written else base, thing, options)


def source_version(name: str) -> str:
    """A 16-digit hash of the sources that ``name`` leads to: edited code is another environment.

    Of a module in a package, every Python file of that package counts, because any of them may define the name. What
    they import from elsewhere is not followed. Like a module, a file is read once in a process. Raises ``UnknownTask``
    where there is no such module.
    """
    module_name = name.partition(":")[0]
    _make_working_directory_importable()
    refuse_module(module_name)
    try:
        package, found = find_spec(module_name.partition(".")[0]), find_spec(module_name)
    except (ImportError, ValueError):
        package = found = None
    if package is None or found is None or found.origin is None or not os.path.isfile(found.origin):
        raise UnknownTask(f"There is no source of {module_name!r}, expected a Python file: check its spelling.")
    return _hash_of_sources(found.origin, tuple(package.submodule_search_locations or ()))


@cache
def _hash_of_sources(file: str, folders: tuple[str, ...]) -> str:
    """Of ``file`` and of all Python files in ``folders``, wherever those are."""
    digest = hashlib.sha256(Path(file).read_bytes())
    for folder in map(Path, folders):
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py")):
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _make_working_directory_importable() -> None:
    """Put the working folder on the path, behind Python's own library and before what is installed.

    A user's ``agents`` is the one that an environment file of theirs means; a ``queue.py`` there hides nothing. Worker
    processes inherit the path.
    """
    if {"", os.getcwd()} & set(sys.path):
        return
    own = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    own |= {os.path.join(folder, "lib-dynload") for folder in own}
    last = max((index for index, entry in enumerate(sys.path) if os.path.realpath(entry) in own), default=-1)
    sys.path.insert(last + 1, os.getcwd())


def _not_importable(base: str, error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"{base} could not be imported ({phrase(error)}), expected a module that loads: correct it or install that."
    )


def _parameters(factory: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The defaults of a factory's keyword parameters (None where it has none), and whether it takes any other."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}, True
    keyword = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    known = {each.name: None if each.default is each.empty else each.default for each in keyword}
    return known, any(each.kind is each.VAR_KEYWORD for each in parameters)


def _options(base: str, query: str, factory: Callable[..., Any]) -> dict[str, Option]:
    known, anything = _parameters(factory)
    options: dict[str, Option] = {}
    for part in query.split("&") if query else ():
        option, separator, text = part.partition("=")
        if not separator:
            raise TaskOptionError(f"{base} got the option {part!r}, expected NAME=VALUE: write e.g. '{base}?n=4'.")
        if option in options:
            raise TaskOptionError(f"{base} got the option {option!r} twice, expected it once: remove one of them.")
        if option not in known and not anything:
            raise TaskOptionError(
                f"{base} has no option {option!r}, expected {'one of: ' + ', '.join(known) if known else 'none'}; "
                "correct it."
            )
        options[option] = _typed(base, option, text, known.get(option))
    return options


def _typed(base: str, option: str, text: str, default: Any) -> Option:
    """``text`` in the type of the parameter's default; where that says nothing, as what it looks like."""
    kinds: list[type] = [type(default)] if type(default) in _WORDS else [bool, int, float, str]
    for kind in kinds:
        try:
            if kind is bool:
                return {"true": True, "false": False}[text.lower()]
            return kind(text)
        except (KeyError, ValueError):
            continue
    raise TaskOptionError(
        f"{base} got {option}={text!r}, expected {_WORDS[kinds[0]]}: for example {option}={_written(default)}."
    )


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _written(value: Option) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
