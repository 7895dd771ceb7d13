"""The parts of a behaviour summary, their details, and the order in which they are left out."""

from __future__ import annotations

from enum import StrEnum


class Part(StrEnum):
    """What can be asked for by name."""

    OVERVIEW = "overview"
    FEATURES = "features"
    SUCCESSES = "successes"
    ACTIONS = "actions"
    ACTION_USE = "action_use"
    OUTCOME = "outcome"
    AGENTS = "agents"
    EPISODES = "episodes"


class Detail(StrEnum):
    """Less than a part, which can be left out of it."""

    EPISODE_ACTIONS = "actions of the episodes shown"
    EPISODE_FEATURES = "features of the episodes shown"
    QUARTERS = "quarter points of features"
    CONTRASTS = "action use at the best value of further features"
    SHARES = "actions by agent"
    BANDS = "action use by bands of a feature"


DEFAULT = tuple(part for part in Part if part is not Part.EPISODES)
"""What is shown where no part is named: ``show_episode`` has the episodes in better words."""
CUTS: tuple[Part | Detail, ...] = (
    Detail.EPISODE_ACTIONS,
    Detail.EPISODE_FEATURES,
    Part.EPISODES,
    Part.AGENTS,
    Detail.QUARTERS,
    Detail.CONTRASTS,
    Part.OUTCOME,
    Detail.SHARES,
    Detail.BANDS,
    Part.ACTION_USE,
    Part.SUCCESSES,
)
"""What is left out to save tokens, in this order; then the least telling features."""

DETAILS_OF = {
    Part.EPISODES: (Detail.EPISODE_ACTIONS, Detail.EPISODE_FEATURES),
    Part.FEATURES: (Detail.QUARTERS,),
    Part.ACTION_USE: (Detail.CONTRASTS, Detail.BANDS),
    Part.ACTIONS: (Detail.SHARES,),
}
