"""The warehouse of `rware`, stepped in batches."""
