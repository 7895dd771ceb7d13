"""What the agents may do in a round: evidence, proposals, branches, verdicts, decisions."""
