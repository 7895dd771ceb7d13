"""A language model behind an agent: specs, providers, and the layers between a reply and the log."""
