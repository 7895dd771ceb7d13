"""What makes one branch better than another: sparse return as finely as it can be measured, then progress.

The order is fixed from branches that are not judged by it (the screen's, or the main run where nothing is screened),
so that the arms of a confirmation are exchangeable under it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from learning_signal.marl.gate.measure import Measure, MeasureName
from learning_signal.marl.settings import Frozen

INFORMATIVE = 0.05
"""Share of episodes with a sparse return above 0 from which sparse return says something about an arm."""
RESOLUTION = 2.0
"""Two sparse returns are told apart from this many standard errors of one of them on."""


class Order(Frozen):
    """How branches are ordered. `key` sorts them; the larger key is better."""

    step: float | None
    """Sparse returns in the same step of this size are equal; 0: none are; None: sparse return does not count."""
    progress: bool
    """Whether progress decides where sparse return does not. False where the task declares none."""
    reason: str
    """What the step rests on, in words with numbers."""

    def key(self, sparse_return: float, progress: float | None) -> tuple[float, ...]:
        """What orders a branch with these means; ``progress`` is ignored where the task declares none."""
        sparse = () if self.step is None else (self.level(sparse_return),)
        return (*sparse, progress) if self.progress and progress is not None else sparse

    def level(self, sparse_return: float) -> float:
        """A sparse return as finely as it counts."""
        return math.floor(sparse_return / self.step) if self.step else sparse_return

    def gain(self, sparse_return: float, progress: float | None) -> tuple[float, ...]:
        """What orders two arms by their mean differences to a third: a gain within one step is none."""
        whole = sparse_return if not self.step else float(math.trunc(sparse_return / self.step))
        sparse = () if self.step is None else (whole,)
        return (*sparse, progress) if self.progress and progress is not None else sparse

    def decides(self, difference: float, delta: float) -> MeasureName:
        """The measure that judges arms with this mean difference of sparse return: progress where it is within delta.

        So a better arm is never judged worse: a gain in sparse return that is too small to count hides no progress.
        """
        if not self.progress:
            return "sparse_return"
        return "progress" if self.step is None or abs(difference) <= delta else "sparse_return"


def order_of(arms: Mapping[str, Sequence[Measure]], declared: bool) -> Order:
    """The order that these arms' measures call for; arms without any measure are left out.

    Sparse return counts once any arm succeeds in more than a share `INFORMATIVE` of its episodes, or where the task
    declares no progress. Its step is `RESOLUTION` times the largest standard error of a branch's mean sparse return.
    """
    measured = {name: [one for one in arm if one.sparse_return is not None] for name, arm in arms.items()}
    shares = {
        name: sum(one.succeeded or 0.0 for one in branches) / len(branches)
        for name, branches in measured.items()
        if branches
    }
    errors = [one.error for branches in measured.values() for one in branches if one.error is not None]
    step = RESOLUTION * max(errors, default=0.0)
    best = max(shares, key=lambda name: shares[name], default=None)
    if not declared:
        return Order(step=0.0, progress=False, reason="the task declares no progress, so sparse return alone counts")
    if best is None or shares[best] < INFORMATIVE:
        most = "no arm was measured" if best is None else f"at most {shares[best]:.1%} of an arm's episodes succeed"
        return Order(step=None, progress=True, reason=f"{most}, so progress decides")
    return Order(
        step=step,
        progress=True,
        reason=f"{shares[best]:.0%} of the episodes of {best} succeed, so sparse return decides in steps of "
        f"{step:.3g}, then progress",
    )
