"""Tests of the wire protocols, without a socket."""
