"""Tests of the voice detectors."""
