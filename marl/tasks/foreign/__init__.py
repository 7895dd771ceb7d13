"""Environments of a user's own: PettingZoo's parallel environments as a batched task."""
