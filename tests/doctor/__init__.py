"""Tests of `streaming-asr doctor`."""
