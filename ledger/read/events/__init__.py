"""Events of a log: found by words, and a page at a time."""
