"""The reading side of the log: rows as records, why a decision was taken, verification."""
