"""Clients of the native protocol, and the library they share.

`stream.open_stream` is one connection; `reconnect.open_lasting_stream` goes on over restarts of the server.
"""
