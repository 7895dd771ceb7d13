"""Who computes segments: local processes, or the machines of a Ray cluster."""
