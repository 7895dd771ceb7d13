"""A session played again from its log: the recorded answers, the stored training, and no network."""
