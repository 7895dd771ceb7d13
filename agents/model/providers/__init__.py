"""The providers of backends: one file per kind, and the registry that names them all."""
