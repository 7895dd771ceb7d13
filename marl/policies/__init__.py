"""Trained policies: as files, played, and as curves."""
