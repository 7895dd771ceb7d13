"""Who speaks: the four agents, their backends and the turn order. autogen is imported nowhere else."""
