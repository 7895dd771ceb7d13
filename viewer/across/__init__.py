"""Reports over whole sessions: what scanners found, what agents did, where two sessions part."""
