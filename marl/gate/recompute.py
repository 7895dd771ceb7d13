"""The statistics of a comparison computed again from its recorded inputs, to verify a ledger."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from learning_signal.marl.gate.confirmation import judge
from learning_signal.marl.gate.judge import Purpose
from learning_signal.marl.gate.measure import Measure, later_half, of_episodes
from learning_signal.marl.gate.order import Order, order_of
from learning_signal.marl.gate.probation import probation
from learning_signal.marl.gate.screening import rank_screen
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.trial import judge_look

WORDING = 2
"""The version of the words of a confirmation's reason: its inputs name it, so that earlier ones still agree."""
_SINCE = (
    (r" \(smallest possible [^)]*\)", ""),
    (r" \([\d.]+% interval [^,)]*\)", ""),
    (r"\([\d.]+% interval", "(interval"),
    (r"the mean of the better of each pair is below", "every arm is below"),
)
"""What is new in these words, and what stood there before."""


def recompute(purpose: str, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The result a comparison must have recorded, as plain data.

    Args:
        purpose: ``screen``, ``confirm`` or ``probation``.
        inputs: as recorded: ``max_return``, ``arms`` and their ``order`` (JSON objects have none, and equal
            candidates are ranked in it). Of a screen or a confirmation an arm is the list of its seeds' measures;
            of a probation (``before``, ``after``) it holds ``sparse_returns`` and ``progress``, one value per episode.
            Where a seed has ``offered``, all its evaluations, those it names must be the ones a branch is measured by.
            A screen has its ``rung`` beside them, and how many ``further`` seeds it had; a sequential confirmation its
            ``level`` and what it is ``ordered_by`` (where it has ``main_run``, query evaluations of a segment, these
            must give it); another one the ``confirmations`` that share ``family_alpha``. Both have the ``wording`` of
            their reason. (A rung of 0, 1 confirmation and wording 1 where an earlier version recorded none.)
        settings: the gate settings as recorded.

    Raises:
        ValueError: inputs from which no comparison of this purpose can have been made.
    """
    stored = settings if "mode" in settings or "rule" in settings else {**settings, "mode": "paired"}
    result = _result(purpose, inputs, settings, GateSettings.model_validate(stored))
    if purpose == "confirm" and inputs.get("wording", 1) < WORDING:
        for now, before in _SINCE:
            result["reason"] = re.sub(now, before, result["reason"])
    return result if "mode" in settings else _as_version_0_1(result)


def _as_version_0_1(result: dict[str, Any]) -> dict[str, Any]:
    """The result in the words of version 0.1: what was judged was called ``rule`` there, and spelt with a space."""
    if "measure" in result and "arms" not in result:
        result = {("rule" if name == "measure" else name): value for name, value in result.items()}
    for name in ("rule", "measure"):
        if name in result:
            result[name] = result[name].replace("_", " ")
    return result


def _result(purpose: str, inputs: Mapping[str, Any], settings: Mapping[str, Any], gate: GateSettings) -> dict[str, Any]:
    if purpose == "probation":
        return _probation(inputs, gate)
    arms = {
        arm: [Measure.model_validate({name: seed.get(name) for name in Measure.model_fields}) for seed in seeds]
        for arm, seeds in ((arm, inputs["arms"][arm]) for arm in inputs.get("order", inputs["arms"]))
    }
    if "control" not in arms:
        raise ValueError(f"found the arms {', '.join(arms)}, expected control among them")
    if purpose in ("screen", "confirm"):
        _refuse_other_episodes(inputs, "screen" if purpose == "screen" else gate.judge.confirms_on)
        _refuse_other_evaluations(inputs)
    if purpose == "screen" or purpose == "confirm" and not gate.judge.sequential:
        further = inputs.get("further", 0)
        if not 0 <= further <= gate.screen_further:
            raise ValueError(f"found {further} further seeds of a screen, expected at most {gate.screen_further}")
        _refuse_other_number(arms, gate.screen_seeds + further if purpose == "screen" else gate.confirm_seeds)
    control = arms.pop("control")
    if purpose == "screen":
        return rank_screen(control, arms, inputs["max_return"], gate, inputs.get("rung", 0)).model_dump(mode="json")
    if purpose != "confirm" or len(arms) != 1:
        raise ValueError(f"found a {purpose} of {len(arms)} candidates, expected a confirm of one")
    (candidate,) = arms.values()
    if gate.judge.sequential:
        return _trial(control, candidate, inputs, gate) | {"settings": dict(settings)}
    declared = inputs["progress_declared"]
    verdict = judge(
        [each.sparse_return for each in control],
        [each.sparse_return for each in candidate],
        [each.progress for each in control] if declared else None,
        [each.progress for each in candidate] if declared else None,
        inputs["max_return"],
        gate,
        inputs.get("confirmations", 1),
    )
    # The settings as recorded: an earlier version had fewer.
    return verdict.model_dump(mode="json") | {"settings": dict(settings)}


def _trial(
    control: list[Measure], candidate: list[Measure], inputs: Mapping[str, Any], gate: GateSettings
) -> dict[str, Any]:
    """The last look of a trial, none of whose earlier looks may have ended it."""
    order, level = Order.model_validate(inputs["ordered_by"]), inputs["level"]
    if "main_run" in inputs:
        _refuse_other_order(order, inputs)
    for look in range(1, len(control) + 1):
        found = judge_look(control[:look], candidate[:look], order, inputs["max_return"], gate, level)
        if (found.outcome is None) != (look < len(control)):
            end = "it had not ended" if found.outcome is None else f"look {look} ended it"
            raise ValueError(f"found a trial of {len(control)} looks, but {end}")
    return found.model_dump(mode="json")


def _refuse_other_order(order: Order, inputs: Mapping[str, Any]) -> None:
    """``ValueError`` where the query evaluations of the main run give another order than the recorded one."""
    later = later_half(inputs["main_run"])
    succeeded, error = of_episodes([one.sparse_returns for one in later])
    mean = sum(one.sparse_return for one in later) / len(later)
    measure = Measure(sparse_return=mean, progress=None, succeeded=succeeded, error=error)
    expected = order_of({"the main run": [measure]}, inputs["progress_declared"])
    if order.progress != expected.progress or not _close(order.step, expected.step):
        raise ValueError(f"found an order with the step {order.step}, the main run gives {expected.step}")


def _refuse_other_episodes(inputs: Mapping[str, Any], expected: Purpose) -> None:
    """``ValueError`` where an arm was measured on other episodes than its judge uses."""
    for arm, seeds in inputs["arms"].items():
        for index, seed in enumerate(seeds):
            if (found := seed.get("episode_set", expected)) != expected:
                raise ValueError(f"found {arm}, seed {index + 1}, measured on {found} episodes, expected {expected}")


def _refuse_other_evaluations(inputs: Mapping[str, Any]) -> None:
    """``ValueError`` where a seed was measured by others of its evaluations than a branch is measured by."""
    for arm, seeds in inputs["arms"].items():
        for index, seed in enumerate(seeds):
            if "offered" not in seed:
                continue
            expected = [evaluation.env_steps for evaluation in later_half(seed["offered"])]
            if seed["evaluations"] != expected:
                found = (
                    f"found {arm}, seed {index + 1}, measured by its evaluations after {seed['evaluations']} env steps"
                )
                raise ValueError(f"{found}, expected the later half, after {expected}")
            shares = of_episodes([one.sparse_returns for one in later_half(seed["offered"])])
            for name, value in zip(("succeeded", "error"), shares, strict=True):
                if name in seed and not _close(seed[name], value):
                    raise ValueError(
                        f"found {name} {seed[name]} of {arm}, seed {index + 1}, its evaluations give {value}"
                    )


def _close(found: float | None, expected: float | None) -> bool:
    """Equal up to the order of a sum, which may differ between machines."""
    return found == expected if found is None or expected is None else math.isclose(found, expected, abs_tol=1e-12)


def _refuse_other_number(arms: Mapping[str, list[Measure]], expected: int) -> None:
    """``ValueError`` where an arm has more or fewer seeds than the gate asks for."""
    for arm, seeds in arms.items():
        if len(seeds) != expected:
            raise ValueError(f"found {len(seeds)} seeds of {arm}, expected {expected}")


def _probation(inputs: Mapping[str, Any], gate: GateSettings) -> dict[str, Any]:
    before, after = inputs["arms"]["before"], inputs["arms"]["after"]
    verdict = probation(
        before["sparse_returns"],
        after["sparse_returns"],
        before["progress"],
        after["progress"],
        inputs["max_return"],
        gate,
    )
    return verdict.model_dump(mode="json")
