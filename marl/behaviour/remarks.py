"""What is doubtful about a shaping, computed from its preview: a sign, a strength. No refusal: it wants a reason."""

from __future__ import annotations

from typing import Literal

from learning_signal.marl.behaviour.preview import Preview, TermPreview
from learning_signal.marl.settings import Frozen

STRONG = 4.0
"""A largest rise of more than so many times a good rise can drown the sparse reward."""
WEAK = 0.1
"""Below this share of a good rise agents hardly feel it."""
STRONG_WITHOUT_DIRECTION = 1.0
"""What a term may be worth, in good rises, whose feature has no declared direction."""


class Remark(Frozen):
    """One doubt about a candidate, in words."""

    kind: Literal["wrong sign", "no direction", "too strong", "too weak"]
    text: str
    """What was found and what is declared or usual; the predicate of a sentence about the candidate."""


def remarks_on(preview: Preview, good_rise: float) -> tuple[Remark, ...]:
    """The remarks on a previewed shaping; ``good_rise`` is what beta * Phi should rise by over a good episode.

    Strengths are judged by the largest rise within an episode: over a whole one the Phi of a good shaping rises by
    nothing while the policy is bad. On `spread` and the warehouse what rules proposed and the gate promoted had 0.19 to
    4.8 times ``good_rise`` of it.
    """
    found = [remark for place, term in enumerate(preview.terms, 1) for remark in _on_term(place, term, good_rise)]
    if not preview.terms or preview.beta == 0:
        return ()
    ratio = preview.largest_rise / good_rise
    rises = f"beta * Phi rises by up to {preview.largest_rise:.3g} within the recorded episodes, {ratio:.3g} times"
    if ratio > STRONG:
        text = f"{rises} good_rise {good_rise:.3g}; more than {STRONG:g} times can drown the sparse reward"
        found.append(Remark(kind="too strong", text=text))
    elif ratio < WEAK:
        text = f"{rises} good_rise {good_rise:.3g}; less than {WEAK:g} times is hardly felt"
        found.append(Remark(kind="too weak", text=text))
    return tuple(found)


def _on_term(place: int, preview: TermPreview, good_rise: float) -> list[Remark]:
    label = f'term {place} ("{preview.term.potential}", weight {preview.term.weight:g})'
    found = []
    for each in preview.directions:
        if each.agrees is False:
            text = f'{label} pays for {each.pays} {each.feature}, declared "{each.declared} is better"'
            found.append(Remark(kind="wrong sign", text=text))
        ratio = preview.largest_rise / good_rise
        if each.declared is None and each.pays != "neither" and ratio > STRONG_WITHOUT_DIRECTION:
            text = (
                f"{label} rises by up to {ratio:.3g} times good_rise within the recorded episodes, and no direction of "
                f"{each.feature} is declared to be better"
            )
            found.append(Remark(kind="no direction", text=text))
    return found
