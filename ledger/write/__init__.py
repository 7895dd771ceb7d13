"""The writing side of the log: sessions, rows, the chain of decisions, redaction."""
