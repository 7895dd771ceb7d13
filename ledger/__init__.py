"""The SQLite log of every message, tool call, branch, statistic and decision. No torch, no autogen."""
