"""Executors, which compute segments: local processes, or the machines of a Ray cluster."""
