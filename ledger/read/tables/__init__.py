"""Sessions as tables for other programs, and as curves."""
