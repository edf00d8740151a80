"""Streaming speech recognition: live audio in, text while it is spoken."""

__version__ = "0.1.0"
