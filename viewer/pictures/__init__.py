"""A picture that the viewer draws, in formats other than SVG."""
