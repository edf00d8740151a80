"""Tests of `streaming_asr.core`."""
