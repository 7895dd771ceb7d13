"""A study: arms, cells, and results compared at equal total env steps of training."""
