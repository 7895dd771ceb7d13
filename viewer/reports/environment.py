"""The findings of an environment check, and the task that the environment would make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from learning_signal.viewer.reports.catalogue import render_tasks
from learning_signal.viewer.text import clean

_STYLES = {"error": "bold red", "warning": "yellow"}


def render_environment(
    name: str, findings: Sequence[Mapping[str, Any]], spec: Mapping[str, Any] | None, printed: Sequence[str] = ()
) -> Group:
    """Findings (``level``, ``check``, ``message``), errors first, and below them what its code ``printed`` last and the
    task's declaration, if any.
    """
    errors = sum(finding["level"] == "error" for finding in findings)
    verdict = "cannot be trained on yet" if errors else "keeps the contract"
    more = f": {len(findings)} finding{'s' if len(findings) > 1 else ''}" if findings else ""
    parts: list[RenderableType] = [
        Text.assemble((clean(name), "bold"), (f" {verdict}{more}", "red" if errors else "green"))
    ]
    for finding in findings:
        level = (finding["level"], _STYLES.get(finding["level"], ""))
        parts.append(Text.assemble(level, f" ({clean(finding['check'])}): {clean(finding['message'])}"))
    if printed:
        parts.append(Text("\nIts code printed:", "bold"))
        parts += [Text(f"  {clean(line)[:200]}", "dim") for line in printed[-8:]]
    if spec is not None:
        parts += [Text("\nAs a task:", "bold"), render_tasks([spec])]
    return Group(*parts)
