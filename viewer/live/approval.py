"""A promotion put to the person at the terminal: the candidate, its verdict, and the answer with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from learning_signal.ledger.questions import how_to_answer
from learning_signal.ledger.wording import LEDGER
from learning_signal.viewer.live.keyboard import Keyboard
from learning_signal.viewer.text import clean, shaping_line


class Approver:
    """Shows a question about a promotion, and reads the answer of the person at the terminal."""

    def __init__(self, console: Console, ledger: Path | None, answer: Callable[[bool, str], Any]) -> None:
        self._console, self._ledger, self._answer = console, ledger or LEDGER, answer
        self._keyboard = Keyboard(console)

    def ask(self, question: Any) -> Any:
        """Show the candidate and its verdict, and read the answer. What was typed before that is dropped.

        None where nobody answers here: there is no terminal, its input ended, or ``question.withdrawn`` was set.
        ``question`` has ``id``, ``round``, ``candidate`` (``name``, ``shaping``, ``rationale``, ``remarks``,
        ``answer``), ``verdict`` (``outcome``, ``reason``, ``reading``), ``reason``, the Coordinator's, and
        ``unsupported``.
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
        show(Text(f"  From another shell: {how_to_answer(question.id, self._ledger)}", "dim"), soft_wrap=True)
        if not self._keyboard.here:
            return None
        self._keyboard.forget()
        try:
            return self._read(question.withdrawn.is_set)
        except EOFError:
            show(Text("\nThe input ended here: the answer is awaited from another shell.", "yellow"))
            return None

    def _read(self, withdrawn: Callable[[], bool]) -> Any:
        while (reply := self._keyboard.line("approve or reject? [a/r] ", withdrawn)) is not None:
            word = reply.strip().lower()
            if word in ("a", "approve", "r", "reject"):
                reason = self._keyboard.line("reason (may be empty): ", withdrawn)
                return None if reason is None else self._answer(word[0] == "a", reason.strip() or "no reason given")
            self._console.print(Text(f"found {clean(reply)!r}, expected a (approve) or r (reject)", "yellow"))
        return None
