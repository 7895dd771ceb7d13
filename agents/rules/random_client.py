"""``RandomClient``: a Generator that proposes at random, an ablation of the reasoning behind proposals."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from learning_signal.agents.rules.client import RulesClient
from learning_signal.agents.rules.reading import Answer, Conversation, Request, number, rows
from learning_signal.marl.shaping import ShapingConfig, ShapingError
from learning_signal.marl.shaping.random import draw
from learning_signal.marl.tasks.base import Feature

MOST_ATTEMPTS = 8
RATIONALE = "Drawn at random from the declared features; nothing was considered."
ANSWER = "Drawn at random: no sign and no strength was considered."
FORECAST = {"measure": "sparse_return", "change": 0.0, "probability": 0.5}


class RandomClient(RulesClient):
    """The Generator's part played by a seeded random generator, which reads of its brief what may be drawn.

    Its reply is a pure function of ``seed``, the place of the brief (round, refinement, HEAD) and how often it was
    refused. ``ValueError`` for another role.
    """

    component_provider_override = "learning_signal.agents.rules.RandomClient"
    model = "random"

    def __init__(self, role: str = "generator", seed: int = 0):
        super().__init__(role)
        if role != "generator":
            raise ValueError(f"Found the role {role!r}, expected generator, the only one that can be played at random.")
        self.seed = seed

    def part(self) -> tuple[Any, Any]:
        """The next step of a phase, and the answer to a free question."""
        return self._propose, lambda conversation: "I propose at random: there is no reason that I could give."

    def _propose(self, conversation: Conversation) -> Answer:
        brief, refused = conversation.brief, len(conversation.named("submit_proposal"))
        if refused >= MOST_ATTEMPTS:
            return Answer(f"{refused} random proposals were refused; I stop here.")
        place = [brief.get(name) for name in ("round", "refinement", "head")]
        text = json.dumps([self.seed, refused, *place], sort_keys=True)
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
        count = int(number(brief.get("candidates_wanted")) or 3)
        # A proposal is refused whole if two candidates are too similar: the last attempts submit one.
        count = 1 if refused == MOST_ATTEMPTS - 1 else count
        try:
            features = [Feature(**row) for row in rows(brief.get("features"))]
            drawn = [draw(features, number(brief.get("good_rise")) or 1.0, rng) for _ in range(count)]
        except (ShapingError, TypeError) as error:
            return Answer(f"I cannot draw a shaping: {error}")
        drafts = [_draft(config) for config in drawn]
        submission = Request("submit_proposal", {"candidates": drafts})
        return Answer(f"I propose {count} shapings drawn at random.", (submission,))


def _draft(config: ShapingConfig) -> dict[str, Any]:
    terms = [term.model_dump() for term in config.terms]
    return {"terms": terms, "beta": config.beta, "rationale": RATIONALE, "forecast": FORECAST, "answer": ANSWER}
