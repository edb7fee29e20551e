"""What Prefect keeps in a room of this name."""
