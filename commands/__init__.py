"""The commands that need agents, training or the gate; those that only read a log are in ``viewer.cli``."""
