"""What one hostile client does to those who speak at the same time."""
