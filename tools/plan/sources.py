"""Where settings come from: command line over environment over config file over default, with errors that say which.

A setting is named by its path in `SessionSettings`, such as ``gate.alpha``. In a TOML file that is the key ``alpha`` of
``[gate]``; in the environment ``LEARNING_SIGNAL_GATE__ALPHA``. What has an option has a short variable too:
``--stage-steps`` is ``LEARNING_SIGNAL_STAGE_STEPS``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from learning_signal.ledger.origin import STATE_VARIABLE
from learning_signal.marl.executors.base import ExecutorSettings
from learning_signal.marl.files import UnreadableFile, parse_toml, read_text
from learning_signal.marl.gate.judges import judge_of, known_mode
from learning_signal.tools.plan.budget import BudgetError, Price, parse_budget
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.plan.suitability import refuse_untested

PREFIX = "LEARNING_SIGNAL_"
AGENT_PREFIX = "LEARNING_SIGNAL_AGENT_"
"""Prefix of the agents' backends, which are resolved elsewhere."""
CONFIG_VARIABLE = "LEARNING_SIGNAL_CONFIG"
KEY_VARIABLES = "LEARNING_SIGNAL_KEY_VARIABLES"
"""Names of more variables that may hold keys; never a stored setting."""
_NO_SETTINGS = {CONFIG_VARIABLE, STATE_VARIABLE, KEY_VARIABLES}
"""Variables with our prefix that are not settings."""

OPTIONS = {
    "task": "run.task",
    "algorithm": "run.learner.algorithm",
    "device": "run.learner.device",
    "seed": "seed",
    "rounds": "rounds",
    "stage_steps": "stage_steps",
    "branch_steps": "branch_steps",
    "candidates": "deliberation.candidates",
    "refinements": "deliberation.refinements",
    "family_alpha": "gate.family_alpha",
    "workers": "workers",
    "executor": "executor.kind",
    "address": "executor.address",
    "share": "executor.share",
    "approve": "approve",
    "twin": "twin",
    "stages": "stages",
    "every": "trigger.every",
    "speculate": "speculate",
    "budget": "budget",
    "ledger": "ledger",
    "store": "store",
}
"""The options of the command line and the setting each one is."""

_BESIDE = {"agents", "agent_sources", "shadows", "root"}
"""Fields of SessionSettings that are not set here, but by resolving backend specs and by ``tools.training.root``."""


class SettingsError(ValueError):
    """A setting is wrong: one sentence with where it was found, what was expected, and what to do."""


@dataclass(frozen=True)
class Given:
    """The user's settings, merged: nested values, the place each came from, and the file's ``[agents]`` table."""

    values: dict[str, Any]
    places: dict[str, str]
    """Dotted path of a setting to where it was found, e.g. ``--seed`` or ``experiment.toml``."""
    agents: dict[str, Any]

    def settings(self, agents: Mapping[str, str], agent_sources: Mapping[str, str]) -> SessionSettings:
        """The complete settings with resolved backends; `SettingsError` names the place of a value out of range."""
        try:
            return SessionSettings.model_validate(
                {**self.values, "agents": dict(agents), "agent_sources": dict(agent_sources)}
            )
        except ValidationError as error:
            raise SettingsError(self._sentence(error)) from None

    def _sentence(self, error: ValidationError) -> str:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        where = self._place(path)
        if first["type"] == "value_error" and not path:
            return f"Settings that do not fit together were found: {first['ctx']['error']}."
        if first["type"] == "value_error":
            return f"{where} sets {path or 'a value'} wrongly: {first['ctx']['error']}."
        if first["type"] == "missing":
            table, name = ".".join(str(part) for part in first["loc"][:-1]), first["loc"][-1]
            return f"{where} sets {table} without {name}, expected it too: add {name}."
        rule = first["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
        rule = rule.partition(", unable to")[0]  # pydantic's attempts do not help the user
        found = repr(first["input"])
        found = found if len(found) <= 60 else found[:57] + "..."
        return f"{where} sets {path} to {found}, expected {rule[:1].lower() + rule[1:]}: change it there."

    def _place(self, path: str) -> str:
        """Where ``path``, a part of it, or something inside it was set."""
        parts = path.split(".") if path else []
        for length in range(len(parts), 0, -1):
            place = self.places.get(".".join(parts[:length]))
            if place:
                return place
        inside = [place for key, place in self.places.items() if not path or key.startswith(path + ".")]
        return inside[-1] if inside else "A default"


def gather(
    options: Mapping[str, Any], environment: Mapping[str, str], config: Path | Mapping[str, Any] | None
) -> Given:
    """Merge what the command line, the environment and the config file set.

    Args:
        options: option names (keys of `OPTIONS`) to values; None where an option was not given.
        environment: the process environment; variables that begin with ``LEARNING_SIGNAL_`` are read.
        config: the config file of the command line, or what one would hold; ``LEARNING_SIGNAL_CONFIG`` names one
            otherwise.

    Raises:
        SettingsError: a file that cannot be read or is not TOML, or an unknown key or variable.
        Unsuitable: a ``gate.mode`` that tests nothing, which only a study's own arms may have.
    """
    path = config or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    flat: dict[str, tuple[Any, str]] = {}
    agents: dict[str, Any] = {}
    if path is not None:
        table = dict(path) if isinstance(path, Mapping) else _read(path)
        where = "config=" if isinstance(path, Mapping) else str(path)
        agents = table.pop("agents", {})
        if not isinstance(agents, dict):
            raise SettingsError(
                f"{where} sets agents to {agents!r}, expected a table of backends: write [agents] and below it "
                'critic = "ollama/qwen3:8b".'
            )
        _flatten(table, SessionSettings, "", where, flat)
    flat |= _from_environment(environment)
    _spread_budget(flat)
    for name, value in options.items():
        if value is not None:
            flat[OPTIONS[name]] = (value, "--" + name.replace("_", "-"))
    _spread_budget(flat)
    if (mode := known_mode(flat.get("gate.mode", (None, ""))[0])) is not None:
        refuse_untested(judge_of(mode))  # before the record says what else such a mode would need
    values: dict[str, Any] = {}
    for key, (value, _) in flat.items():
        *tables, last = key.split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = value
    return Given(values, {key: place for key, (_, place) in flat.items()}, agents)


def _spread_budget(flat: dict[str, tuple[Any, str]]) -> None:
    """Put the limits of a budget that is written in one text in the place of that text."""
    if "budget" in flat:
        text, place = flat.pop("budget")
        try:
            flat |= {f"budget.{name}": (value, place) for name, value in parse_budget(str(text)).items()}
        except BudgetError as error:
            raise SettingsError(str(error)) from None


def changed_executor(config: Mapping[str, Any], **options: str | None) -> ExecutorSettings:
    """Where a resume computes segments: as stored in ``config``, unless ``kind``, ``address`` or ``share`` is given."""
    try:
        return ExecutorSettings.model_validate(config.get("executor", {})).changed(**options)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if problem["type"] == "value_error":
            raise SettingsError(f"Options that do not fit together were given: {problem['ctx']['error']}.") from None
        name, rule = problem["loc"][0], problem["msg"].removeprefix("Input should be ")
        option = "executor" if name == "kind" else name
        raise SettingsError(f"Found --{option} {problem['input']}, expected {rule}: choose one of them.") from None


def prices_of(path: Path) -> dict[str, Price]:
    """The table ``[prices]`` of a config file, the only part of it that a resume reads.

    Raises ``SettingsError``, also where the file has none.
    """
    table = _read(path)
    if "prices" not in table:
        raise SettingsError(
            f'{path} has no table [prices], expected one: a resume reads nothing else of it, so write [prices."NAME"] '
            "with input and output there, or leave --config out."
        )
    given = Given({"prices": table["prices"]}, {"prices": str(path)}, {})
    return given.settings({}, {}).prices


def one_task(task: str | None, env: str | None) -> str | None:
    """The task that ``--task`` or ``--env`` names; None where neither does."""
    if env is None:
        return task
    if task is not None:
        raise SettingsError(f"Found --task {task} and --env {env}, expected one of them: leave one out.")
    if ":" not in env:
        raise SettingsError(
            f"Found --env {env}, expected MODULE:FACTORY: name the module and the function in it that makes the "
            "environment; tasks that are shipped go with --task."
        )
    return env


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_text(path))
    except UnreadableFile as error:
        raise SettingsError(f"{path} {error}.") from None
    except OSError as error:
        reason = (error.strerror or "it cannot be opened").lower()
        raise SettingsError(f"The config file {path} cannot be read ({reason}): check the path.") from None


def _flatten(
    table: Mapping[str, Any], model: type[BaseModel], prefix: str, where: str, flat: dict[str, tuple[Any, str]]
) -> None:
    """Add the leaves of ``table``, found ``where``, to ``flat`` by dotted path; an unknown key is refused."""
    known = [name for name in model.model_fields if prefix or name not in _BESIDE]
    for key, value in table.items():
        dotted = f"{prefix}{key}"
        if key not in known:
            raise SettingsError(_unknown(dotted, [prefix + name for name in known], where))
        nested = _record(model, key)
        if nested is None:
            flat[dotted] = (value, where)
        elif isinstance(value, dict):
            _flatten(value, nested, f"{dotted}.", where, flat)
        else:
            raise SettingsError(
                f"{where} sets {dotted} to {value!r}, expected a table: write [{dotted}] and its keys below it."
            )


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    long = {PREFIX + path.upper().replace(".", "__"): path for path in _paths(SessionSettings, "")}
    short = {PREFIX + name.upper(): path for name, path in OPTIONS.items()}
    variables = long | short
    found: dict[str, tuple[Any, str]] = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name.startswith(AGENT_PREFIX) or name in _NO_SETTINGS:
            continue
        if name in variables and not text.strip():  # an empty variable is none
            continue
        if name not in variables:
            raise SettingsError(_unknown(name, [*short, *long], "the environment"))
        found[variables[name]] = (_parsed(text), f"The environment variable {name}")
    return found


def _parsed(text: str) -> Any:
    """A list such as ``[64, 64]``, or a table, is read as JSON; everything else stays text for pydantic to convert."""
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _paths(model: type[BaseModel], prefix: str) -> list[str]:
    paths: list[str] = []
    for name in model.model_fields:
        nested = _record(model, name)
        if nested is not None:
            paths += _paths(nested, f"{prefix}{name}.")
        elif prefix or name not in _BESIDE:
            paths.append(prefix + name)
    return paths


def _record(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The nested record a field holds, or None for a plain value."""
    kind = model.model_fields[name].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _unknown(found: str, known: list[str], where: str) -> str:
    close = difflib.get_close_matches(found, known, n=2, cutoff=0.6)
    if close:
        return f"{where} sets the unknown {found}; did you mean {' or '.join(close)}? Rename or remove it."
    return f"{where} sets the unknown {found}, expected one of {', '.join(known[:16])}: rename or remove it."
