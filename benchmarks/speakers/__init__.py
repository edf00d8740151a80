"""How well speakers are told apart."""
