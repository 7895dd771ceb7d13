"""The plan of a session: its settings, where they come from, its budget and its cost."""
