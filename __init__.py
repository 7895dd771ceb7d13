"""Language models repair the learning signal of a multi-agent reinforcement learning run while it trains."""
