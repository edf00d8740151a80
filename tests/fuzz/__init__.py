"""Fuzzing: any bytes for whatever reads what clients send. See `__main__.py` for the command."""
