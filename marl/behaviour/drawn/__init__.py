"""Recorded episodes and potentials as plain numbers that a page can draw."""
