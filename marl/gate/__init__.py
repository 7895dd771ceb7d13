"""The gate: the statistics that decide whether a shaping may be promoted, and whether it held."""
