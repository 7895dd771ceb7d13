"""What agents claim, held against the record: numbers, names, outcomes, and instructions in their words."""
