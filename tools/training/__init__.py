"""Training without agents, and policies taken out of a log."""
