"""One decision: what it rests on, how its round was talked through, and what would have had to be different."""
