"""What the agents may do: typed tools over the trainer and the ledger, and the contracts they exchange."""
