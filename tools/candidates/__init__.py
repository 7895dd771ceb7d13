"""Candidates before they count: drafts are checked, and those from outside wait for a round."""
