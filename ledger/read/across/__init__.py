"""Reads over several sessions at once."""
