"""The chain of a session: every row has a place in it, so that none can be changed, added or removed unnoticed."""
