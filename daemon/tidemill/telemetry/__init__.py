"""What the daemon says about itself: log lines, and the redaction of secrets from everything that leaves it."""
