"""Deepgram's two protocols: listen and Flux."""
