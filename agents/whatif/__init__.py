"""What another backend would have said to a recorded request."""
