"""What the commands that read a log take."""
