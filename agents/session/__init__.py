"""A supervised session from its first stage to its outcome, and a study of several."""
