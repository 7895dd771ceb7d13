"""What a model wrote as the arguments of a tool: read where the meaning is certain, refused in plain words else."""
