"""What the agents may do in a round: proposals, branches, verdicts, decisions."""
