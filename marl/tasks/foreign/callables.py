"""The rule for what a task's name may import and call; a module is checked before it is loaded.

``MODULE:FACTORY?option=value`` could name any function of any module, with options that somebody else wrote. The rule:

* The module is not Python's own and not part of this program. It lies in the folder you work in (or another one on
  ``PYTHONPATH``), or among the installed packages.
* A ``ParallelTask`` is a declaration and always allowed, and so is a PettingZoo ``ParallelEnv`` class.
* Every other function or class is called only where its own code lies in a file of the user's, wherever it is imported.
* Of an installed package only what is called ``parallel_env`` is called (PettingZoo's name for a factory), or what
  PettingZoo's ``parallel_wrapper_fn`` made.

So a bare factory in a file of the user's is allowed, and ``os.system``, ``numpy.save`` or ``torch.load`` are never
called, not even where a file of the user's imports them. Whether a name may be imported at all is decided before that,
by who wrote it: see ``tools.consent``.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any, Literal

from learning_signal.marl.errors import UnknownTask

Place = Literal["python", "program", "installed", "own"]

_PROGRAM = Path(__file__).resolve().parents[3]
_ROOMS = ("agents", "commands", "tools", "marl", "ledger", "viewer", "prompts", "bench")
_FILES = ("__init__.py", "__main__.py", "run.py")
_INSTALLED = {"site-packages", "dist-packages"}
_PYTHON = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
_FACTORY = "parallel_env"
_BASE = ("pettingzoo.utils.env", "ParallelEnv")
_WRAPPER = ("pettingzoo.utils.conversions", "parallel_wrapper_fn.<locals>.par_fn")


def refuse_module(module: str) -> None:
    """``UnknownTask`` where ``module`` is Python's own or this program's. Nothing of it is imported."""
    if not all(part.isidentifier() for part in module.split(".")):
        raise UnknownTask(f"Found the module {module!r}, expected a name such as package.module: correct it.")
    if (owner := owner_of(module)) is not None:
        raise UnknownTask(
            f"The module {module} is {owner}'s, expected one in the folder you work in or of an installed package: "
            "name the module that defines your environment."
        )


def owner_of(module: str) -> Literal["Python itself", "this program"] | None:
    """The owner of ``module`` where it can never define an environment. Nothing of it is imported."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__main__":
        return "Python itself"
    try:
        found = find_spec(top)
    except (ImportError, ValueError):
        return None  # a missing module is reported by its import
    places = {place_of_file(file) for file in _files(found)} if found is not None else set()
    return "Python itself" if "python" in places else "this program" if "program" in places else None


def refuse_callable(base: str, thing: Any) -> None:
    """``UnknownTask`` where ``thing``, which ``base`` (``MODULE:FACTORY``) leads to, is not to be called. See above."""
    if not callable(thing):
        raise UnknownTask(
            f"{base} is of type {type(thing).__name__}, expected a function that makes a ParallelEnv, or a "
            "ParallelTask: name one of these."
        )
    if _is_parallel_env(thing):
        return
    function = _unwrapped(thing)
    place = _place_of(function)
    if place == "own":
        return
    if place == "installed" and (base.rpartition(":")[2].rpartition(".")[2] == _FACTORY or _is_wrapper(function)):
        return
    raise UnknownTask(
        f"{base} is code {_WORDS[place]}, expected a ParallelEnv class, a factory that a file of yours defines, or an "
        "installed package's parallel_env: write a file with task = ParallelTask(factory=...) and name that."
    )


_WORDS = {
    "python": "of Python itself",
    "program": "of this program",
    "installed": "of an installed package",
    None: "without a source",
}


def _files(found: Any) -> list[str]:
    """Where a module was found: its file, or the folders of a package without one."""
    if found.has_location and found.origin:
        return [found.origin]
    return list(found.submodule_search_locations or ())


def place_of_file(file: str) -> Place:
    """Whose code a file holds."""
    path = Path(os.path.abspath(file))
    real = path.resolve()
    if any(real.is_relative_to(_PROGRAM / room) for room in _ROOMS) or real in {_PROGRAM / name for name in _FILES}:
        return "program"
    if _INSTALLED & {*path.parts, *real.parts}:
        return "installed"
    return "python" if any(real.is_relative_to(folder) for folder in _PYTHON) else "own"


def _place_of(function: Any) -> Place | None:
    """Where the code of a function or class lies; None where it has no file (built-in and generated code)."""
    if isinstance(function, type):
        module = sys.modules.get(function.__module__)
        file = getattr(module, "__file__", None)
        if function.__module__.partition(".")[0] in sys.stdlib_module_names:
            return "python"
    else:
        code = getattr(function, "__code__", None)
        file = code.co_filename if isinstance(code, CodeType) else None
    return place_of_file(file) if isinstance(file, str) and os.path.isfile(file) else None


def _unwrapped(thing: Any) -> Any:
    """The function behind partial application, decorators that say so, methods and callable objects."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if isinstance(thing, type):
        return thing
    if not any(hasattr(thing, name) for name in ("__code__", "__wrapped__", "__func__")):
        thing = type(thing).__call__  # an object with a method of that name, or a built-in function
    thing = inspect.unwrap(thing)
    return getattr(thing, "__func__", thing)


def _is_parallel_env(thing: Any) -> bool:
    """Whether it is a class derived from PettingZoo's, which then is imported already."""
    if not isinstance(thing, type):
        return False
    return any((each.__module__, each.__name__) == _BASE for each in thing.__mro__[1:])


def _is_wrapper(function: Any) -> bool:
    return (getattr(function, "__module__", None), getattr(function, "__qualname__", None)) == _WRAPPER
