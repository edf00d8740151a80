"""What changes the texts of a session after the recognizer; one file each. `registry.py` has them in their order."""
