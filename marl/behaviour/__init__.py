"""What agents did in an evaluation, as a record and as text for a language model."""
