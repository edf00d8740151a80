"""Tests of timed words and subtitles."""
