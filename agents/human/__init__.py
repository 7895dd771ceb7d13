"""A person in the place of an agent: asked for the same replies as a model, over the same context and tools."""
