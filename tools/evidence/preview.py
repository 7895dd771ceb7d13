"""``preview_shaping``: what shapings do on the recorded episodes of HEAD, before anything is trained."""

from __future__ import annotations

from typing import Any

from learning_signal.marl.behaviour.preview import Preview, TermPreview, preview
from learning_signal.marl.behaviour.remarks import remarks_on
from learning_signal.marl.shaping import ShapingConfig, ShapingError, check
from learning_signal.tools.base import Answer, Tool, ToolRefused, compact, rounded
from learning_signal.tools.candidates.examine import shaping_of
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import PreviewShaping


def preview_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that checks what is claimed of a shaping."""

    async def preview_shaping(arguments: PreviewShaping) -> Answer:
        record = context.trainer.behaviour(context.head.segment)
        good, cards, errors = context.good_rise, list[dict[str, Any]](), list[str]()
        for place, draft in enumerate(arguments.candidates, 1):
            try:
                shaping = shaping_of(draft, context.head.env_steps)
                check(shaping, context.task)
            except ShapingError as error:
                errors.append(f"candidate {place}: {error}")
                cards.append({"candidate": place, "error": str(error)})
                continue
            found = preview(
                shaping, record, context.task, context.settings.run.learner.discount, context.head.env_steps
            )
            cards.append({"candidate": place} | _card(context, shaping, found, good))
        if len(errors) == len(cards):
            raise ToolRefused(" ".join(errors))
        body = {
            "source": "main",
            "env_steps": context.head.env_steps,
            "episodes": len(record.lengths),
            "good_rise": rounded(good),
            "candidates": cards,
        }
        return Answer(compact(body))

    return {
        "preview_shaping": Tool(
            "preview_shaping",
            "Check claims about shapings on HEAD's recorded episodes, without training: how far beta * Phi rises (all, "
            "best, worst third), its change at rewarded steps, the reward per step, what each term pays for, remarks. "
            "No oracle of learning: proposals made with it were no better.",
            PreviewShaping,
            preview_shaping,
            evidence=True,
        )
    }


def _card(context: SessionContext, shaping: ShapingConfig, found: Preview, good: float) -> dict[str, Any]:
    card: dict[str, Any] = {
        "rise": {
            "all": rounded(found.rise.all),
            "best_third": rounded(found.rise.best),
            "worst_third": rounded(found.rise.worst),
            "best_third_of_good_rise": rounded(None if found.rise.best is None else found.rise.best / good),
        },
        "largest_rise": rounded(found.largest_rise),
        "largest_rise_of_good_rise": rounded(found.largest_rise / good),
        "at_rewarded_steps": None
        if found.at_reward is None
        else {
            "steps": found.at_reward.steps,
            "change": rounded(found.at_reward.change),
            "share_falling": rounded(found.at_reward.falls),
        },
        "shaping_reward_per_step": rounded(found.shaping_per_step),
        "sparse_reward_per_step": rounded(found.sparse_per_step),
        "terms": [_term(each) for each in found.terms],
        "remarks": [remark.text for remark in remarks_on(found, good)],
    }
    if shaping.anneal is not None:
        left = shaping.beta_at(context.head.env_steps + context.branch_steps)
        card["beta_after_a_branch"] = rounded(float(left))
    return card


def _term(found: TermPreview) -> dict[str, Any]:
    return {
        "potential": found.term.potential,
        "rise": rounded(found.rise),
        "share_of_rise": rounded(found.share),
        "change_at_rewarded_steps": rounded(found.change_at_reward),
        "constant": found.constant,
        "pays_for": {
            each.feature: {"pays": each.pays, "declared": each.declared, "agrees": each.agrees}
            for each in found.directions
        },
    }
