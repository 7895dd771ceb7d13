"""Behaviour evidence in words and JSON data: the pieces of a summary, an episode, an arm against another."""
