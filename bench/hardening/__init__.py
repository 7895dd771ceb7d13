"""What mutated inputs and strangers' files come to, over every door of the program."""
