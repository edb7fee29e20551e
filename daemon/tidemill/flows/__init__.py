"""The flows that need no Python: named in the configuration, with checked parameters."""
