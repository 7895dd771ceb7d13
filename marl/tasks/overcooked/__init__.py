"""The task `overcooked`: cooks who make onion soup together; the layouts and rules of `overcooked-ai`."""
