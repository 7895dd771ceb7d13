"""What a judge of confirmations answers, whatever it tests: the contract between the gate and its modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

Mode = Literal["sequential", "paired", "single run", "always"]
Purpose = Literal["screen", "confirm"]
Outcome = Literal["pass", "fail", "inconclusive"]
MOST = 10**6
"""Confirmations where nothing limits them."""


class Numbers(Protocol):
    """The gate settings that a judge reads: a part of ``marl.gate.settings.GateSettings``, which imports this file."""

    @property
    def alpha(self) -> float: ...
    @property
    def family_alpha(self) -> float | None: ...
    @property
    def screen_seeds(self) -> int: ...
    @property
    def screen_fraction(self) -> float: ...
    @property
    def screen_halvings(self) -> int: ...
    @property
    def confirm_seeds(self) -> int: ...
    @property
    def delta(self) -> float: ...
    @property
    def delta_progress(self) -> float: ...
    @property
    def looks(self) -> int: ...
    @property
    def floor(self) -> float: ...
    @property
    def single_run_margin(self) -> float: ...
    def shared_alpha(self, confirmations: int) -> float: ...
    def level(self, spent: float, left: int) -> float: ...


class Judge(Protocol):
    """How candidates are judged, in every answer in which the modes differ."""

    @property
    def mode(self) -> Mode:
        """Its name in stored settings."""

    @property
    def tests(self) -> bool:
        """Whether a pass rests on a test. A session accepts no other judge, except from a study."""

    @property
    def holds_probation(self) -> bool:
        """Whether a promotion is undone where it does not hold."""

    @property
    def confirms_on(self) -> Purpose:
        """Whose seeds, runs and evaluation episodes a confirmation uses: its own, or those of the screen."""

    @property
    def ranks_progress(self) -> bool:
        """Whether the screen ranks by progress while every arm is below the competence floor."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The gate settings of a study's arm with this judge, as far as they differ from the configured ones."""

    @property
    def sequential(self) -> bool:
        """Whether a confirmation adds branches until it is decided, on seeds that its arms do not share."""

    def runs(self, gate: Numbers, *, screened: bool) -> int:
        """Most full-length runs that a confirmation trains in both arms; ``screened``: whether there was a screen."""

    def expected_runs(self, gate: Numbers, confirmations: int, *, screened: bool) -> float:
        """Full-length runs that are expected in the first of so many confirmations where nothing differs."""

    def refuse(self, gate: Numbers, confirmations: int) -> None:
        """``ValueError`` where the settings make no sense with this judge and so many confirmations."""

    def most_confirmations(self, gate: Numbers) -> int:
        """How many confirmations a session may plan with these settings."""

    def smallest_p(self, gate: Numbers, level: float, n: int) -> tuple[float, float] | None:
        """The smallest p of a test at ``level`` with ``n`` branches of each arm, and with any number of them.

        None where nothing is tested.
        """

    def interval_level(self, gate: Numbers, level: float) -> float | None:
        """The level of the two-sided interval of a test at ``level``; None where nothing is tested."""

    def describe(self, gate: Numbers, env_steps: int, max_return: float, confirmations: int, progress: bool) -> str:
        """How a confirmation of so many ``env_steps`` per run is judged, in words for the agents.

        ``progress`` says whether the task declares any.
        """
