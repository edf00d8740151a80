"""Recordings of any format that FFmpeg reads -> samples: copies of the server's modules, which a test compares."""
