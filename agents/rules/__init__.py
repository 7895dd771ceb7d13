"""The ``rules`` backend: a deterministic, rule-based chat model that sees what any model would see."""

from agents.rules.client import RulesClient

__all__ = ["RulesClient"]
