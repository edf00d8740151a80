"""Recordings of any format that FFmpeg reads -> 16 kHz mono audio, decoded by a child process.

A recording may come from anybody, and decoders are large programs in C: what one of them does to its process must not
reach live sessions. The child reads packet by packet (`reader`), follows changes of rate and channels (`converter`),
and sends what it decodes over a pipe (`messages`) to the event loop (`decoders`).

`clients/media` has copies of `reader`, `converter` and what they use, because clients stand alone.
"""
