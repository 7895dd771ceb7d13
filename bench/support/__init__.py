"""What the measurements share, and what is too long for one of them: trials, tables, plots."""
