"""Tests of the embedded recognizer and of what recognizers share."""
