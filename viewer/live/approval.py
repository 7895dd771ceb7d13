"""A promotion put to the person at the terminal: the candidate, its verdict, and the answer with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from learning_signal.viewer.text import clean, shaping_line


class Approver:
    """Puts a question about a promotion to the person at the terminal."""

    def __init__(self, console: Console, answer: Callable[[bool, str], Any]) -> None:
        self._console, self._answer = console, answer

    def ask(self, question: Any) -> Any:
        """Show the candidate and its verdict, and read the answer. Blocks; end of input rejects, and says so.

        ``question`` has ``round``, ``candidate`` (``name``, ``shaping``, ``rationale``, ``remarks``, ``answer``),
        ``verdict`` (``outcome``, ``reason``, ``reading``), ``reason``, the Coordinator's, and ``unsupported``.
        """
        candidate, verdict = question.candidate, question.verdict
        show = self._console.print
        show(Text(f"\nRound {question.round}: the Coordinator asks to promote {clean(candidate.name)}", "bold"))
        for label, text in (
            ("shaping", shaping_line(candidate.shaping.canonical())),
            ("rationale", f"“{candidate.rationale}”"),
            *(("remark of code", remark.text) for remark in candidate.remarks),
            *(
                [("answer of the Generator", f"“{candidate.answer}”" if candidate.answer else "none")]
                if candidate.remarks
                else []
            ),
            ("verdict", verdict.reason),
            ("reading", f"“{verdict.reading}”"),
            ("Coordinator", f"“{question.reason}”"),
            *(("unsupported", problem) for problem in question.unsupported),
        ):
            show(Padding(Text.assemble((f"{label}: ", "bold"), clean(text)), (0, 0, 0, 2), expand=False))
        try:
            while (reply := self._console.input("approve or reject? [a/r] ", markup=False).strip().lower()) not in (
                "a",
                "approve",
                "r",
                "reject",
            ):
                show(Text(f"found {clean(reply)!r}, expected a (approve) or r (reject)", "yellow"))
            reason = self._console.input("reason (may be empty): ", markup=False).strip()
        except EOFError:
            return self._answer(False, "no answer: the input ended")
        return self._answer(reply.startswith("a"), reason or "no reason given")
