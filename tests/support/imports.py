"""Who imports whom among the modules of this program, read from the sources: late and type-only imports count too."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from tests.support.places import ROOT

ROOMS = ("commands", "marl", "ledger", "tools", "agents", "viewer", "prompts")
PACKAGE = "learning_signal."


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Module names below the package, such as ``marl.tasks.base``, and their files; a folder is its ``__init__``."""
    paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    paths += [path for path in (root / "run.py",) if path.is_file()]
    names = (path.relative_to(root).with_suffix("").as_posix().replace("/", ".") for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def names_imported(source: str) -> set[str]:
    """Dotted names that a source imports anywhere in it, within functions and under ``TYPE_CHECKING`` too.

    ``from a import b`` gives ``a.b``: b may be a module. A name given to ``import_module`` or ``__import__`` as a
    constant counts.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if function in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module -> the modules among ``files`` that it imports."""
    return {name: _ours(path.read_text("utf-8"), files) - {name} for name, path in files.items()}


def _ours(source: str, files: Mapping[str, Path]) -> set[str]:
    found = set()
    for name in names_imported(source):
        name = name.removeprefix(PACKAGE)
        while name and name not in files:
            name = name.rpartition(".")[0]
        found |= {name} if name else set()
    return found


def parts(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows between the parts of rooms, ``marl.tasks`` or ``marl.settings``: modules of a folder count as one."""
    parted: dict[str, set[str]] = {part_of(name): set() for name in arrows}
    for name, others in arrows.items():
        parted[part_of(name)] |= {part_of(other) for other in others} - {part_of(name)}
    return parted


def part_of(name: str) -> str:
    """The part of a room that a module belongs to."""
    return ".".join(name.split(".")[:2])


def reachable(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    """``start`` and every module that it imports, at first or at second hand."""
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(arrows[name])
    return seen


def circles(arrows: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, at first or at second hand; none where imports point one way."""
    reach = {name: reachable(name, arrows) for name in arrows}
    groups = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in arrows}
    return sorted(group for group in groups if len(group) > 1)
