"""Helpers of the tests: fakes, a plain client, live servers."""
