"""Shared parts of the benchmarks, and long parts of single ones: trials, tables, plots."""
