"""Measures the ledger: ``python -m bench.ledger``."""
