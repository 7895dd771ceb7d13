"""What is printed while something runs: a session, a training run, a study."""
