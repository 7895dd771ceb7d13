"""What is printed once: reports, tables, explanations and plots."""
