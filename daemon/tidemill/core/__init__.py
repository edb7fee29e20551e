"""The rules: pure functions and frozen values. Nothing here awaits, reads a clock, opens a file or knows SQL."""
