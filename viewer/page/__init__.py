"""A session as one HTML file: what the terminal shows, linked together."""
