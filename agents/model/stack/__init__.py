"""The layers between an agent and its model, and the client that they make together."""
