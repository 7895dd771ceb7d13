"""Tasks by name: from ``"spread?agents=5"``, ``"Foraging-8x8-2p-1f-v3"`` or ``"package.module:factory"`` to a batch.

A task's module is imported when it is first asked for.
"""

from __future__ import annotations

import difflib
import inspect
from importlib import import_module

from learning_signal.marl.errors import TaskOptionError, UnknownTask
from learning_signal.marl.tasks.base import Task
from learning_signal.marl.tasks.spellings import meant

_TASKS = {
    "foraging": "learning_signal.marl.tasks.foraging:Foraging",
    "overcooked": "learning_signal.marl.tasks.overcooked.task:Overcooked",
    "pursuit": "learning_signal.marl.tasks.pursuit:Pursuit",
    "spread": "learning_signal.marl.tasks.spread:Spread",
    "warehouse": "learning_signal.marl.tasks.warehouse.task:Warehouse",
}
_IDS = {"Foraging-": "foraging", "rware-": "warehouse"}
"""How the ids of a reference package begin, and the task they name: the id becomes that task's option ``id``."""


Option = int | float | str


def task_names() -> tuple[str, ...]:
    """The names `make_task` knows, without options, sorted."""
    return tuple(sorted(_TASKS))


def make_task(name: str, environments: int, **options: Option) -> Task:
    """A batch of ``environments`` copies of the task called ``name``.

    ``name`` is a task name, with options or without: ``"spread"``, ``"spread?agents=5&radius=0.2"``;
    ``options`` are the same options given as arguments. ``make_task(task.spec.name, ...)`` makes the same
    task again.

    Raises `UnknownTask` for an unknown name, `TaskOptionError` for an unknown, repeated or malformed option,
    and ``ValueError`` for a value outside the range of its option.
    """
    base, _, query = name.partition("?")
    for beginning, task in _IDS.items():
        if base.startswith(beginning):
            base, options = task, {"id": base, **options}
    if ":" in base:
        from learning_signal.marl.tasks.foreign.task import Foreign

        more = "&".join(f"{option}={value}" for option, value in options.items())
        return Foreign(environments, name + ("&" if query else "?") + more if more else name)
    if base not in _TASKS:
        close = difflib.get_close_matches(base, task_names(), n=1)
        hint = meant(base) or (f"did you mean {close[0]!r}?" if close else "choose one of these.")
        raise UnknownTask(f"Unknown task {base!r}, expected one of: {', '.join(task_names())}; {hint}")
    known = _defaults(base)
    given = _parse(base, query, known)
    for option, value in options.items():
        if option in given:
            raise _repeated(base, option)
        given[option] = _typed(base, option, str(value), known)
    return _class_of(base)(environments, **given)


def _class_of(base: str) -> type:
    module, _, name = _TASKS[base].partition(":")
    return getattr(import_module(module), name)


def _defaults(base: str) -> dict[str, Option]:
    """The options of a task and their default values: the arguments of its class after ``environments``."""
    parameters = inspect.signature(_class_of(base)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name != "environments"}


def _parse(base: str, query: str, known: dict[str, Option]) -> dict[str, Option]:
    given: dict[str, Option] = {}
    for part in query.split("&") if query else ():
        option, separator, text = part.partition("=")
        if not separator:
            raise TaskOptionError(
                f"Task {base!r} got the option {part!r}, expected NAME=VALUE: write e.g. 'spread?agents=5'."
            )
        if option in given:
            raise _repeated(base, option)
        given[option] = _typed(base, option, text, known)
    return given


def _repeated(base: str, option: str) -> TaskOptionError:
    return TaskOptionError(f"Task {base!r} got the option {option!r} twice, expected it once: remove one of them.")


def _typed(base: str, option: str, text: str, known: dict[str, Option]) -> Option:
    """The value ``text`` in the type of the option's default."""
    if option not in known:
        raise TaskOptionError(
            f"Task {base!r} has no option {option!r}, expected one of: {', '.join(known)}; correct it."
        )
    kind = type(known[option])
    try:
        return kind(text)
    except ValueError as error:
        word = {int: "a whole number", float: "a number", str: "text"}[kind]
        raise TaskOptionError(
            f"Task {base!r} got {option}={text!r}, expected {word}: for example {option}={known[option]}."
        ) from error
