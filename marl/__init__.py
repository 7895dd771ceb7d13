"""Tasks, shaping, learners, segments, evaluation, behaviour evidence and gate statistics. Knows nothing above it."""
