"""Events of a log: with everything behind them, found by words, and a page at a time."""
