"""``log`` commands that need more than the log: what was trained, and the code that trained it."""
