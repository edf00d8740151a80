"""What decides that a pause ends an utterance."""
