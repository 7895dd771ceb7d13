"""What `log verify` computes again, beside its own short checks."""
