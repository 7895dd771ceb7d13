"""Reward shaping: bounded configs of potentials over features, checked, compiled and turned into rewards."""

from learning_signal.marl.shaping.config import Anneal, ShapingConfig, Term
from learning_signal.marl.shaping.expression import Expression, ShapingError, compile_expression
from learning_signal.marl.shaping.potential import (
    NEARLY_EQUAL,
    POTENTIAL_BOUND,
    Potential,
    check,
    distance,
    nearly_equal,
    probe_states,
    shaping_rewards,
)

__all__ = [
    "NEARLY_EQUAL",
    "POTENTIAL_BOUND",
    "Anneal",
    "Expression",
    "Potential",
    "ShapingConfig",
    "ShapingError",
    "Term",
    "check",
    "compile_expression",
    "distance",
    "nearly_equal",
    "probe_states",
    "shaping_rewards",
]
