"""Clients of the native protocol, and the library they share."""
