"""The transcript on a terminal: an event opened, a model call as it was sent and answered, JSON made readable."""
