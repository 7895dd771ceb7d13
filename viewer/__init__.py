"""Reads the ledger and shows it in a terminal: the live view, the log, one decision explained, the final report."""
