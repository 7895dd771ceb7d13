"""The worked example of the README."""
