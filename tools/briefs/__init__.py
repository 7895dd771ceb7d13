"""What each agent is told when its phase begins."""
