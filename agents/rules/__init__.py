"""The ``rules`` backend, a deterministic, rule-based chat model that sees what any model would see, and ``random``."""

from learning_signal.agents.rules.client import RulesClient
from learning_signal.agents.rules.random_client import RandomClient

__all__ = ["RandomClient", "RulesClient"]
