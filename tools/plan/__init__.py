"""What a session is going to do, and what that costs: settings, where they come from, budget."""
