"""Reports of a session that was played again, and of what other backends would have said in it."""
