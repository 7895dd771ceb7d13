"""What a model server insists on: what must come back to it, and how a request to it is written."""
