"""Segments: pieces of training named by their inputs, how they are run and what they give."""
