"""Every door of the program, and the inputs that come through it."""
