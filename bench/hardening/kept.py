"""Results that are kept, so that a run that was cut short goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench.hardening.inputs import Result
from tests.support.places import ROOT

_SOURCES = ("agents", "commands", "ledger", "marl", "prompts", "tools", "viewer", "bench/hardening", "tests/support")


def version() -> str:
    """A short hash of everything that a result depends on."""
    files = [path for folder in _SOURCES for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    digest = hashlib.sha256()
    for path in sorted([*files, ROOT / "run.py"]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Kept:
    """The results of one version of the sources, in a file that grows by a line for each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{version()}.jsonl"

    def results(self) -> dict[tuple[str, int], Result]:
        """What is there, by group and number."""
        return dict(self._read()) if self.path.exists() else {}

    def _read(self) -> Iterator[tuple[tuple[str, int], Result]]:
        for line in self.path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # cut short by a kill
                continue
            group, number = row.pop("group"), row.pop("number")
            yield (group, number), Result(**row | {"problems": tuple(row["problems"])})

    def add(self, group: str, number: int, result: Result) -> None:
        """Keep a result."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"group": group, "number": number, **asdict(result)}) + "\n")
