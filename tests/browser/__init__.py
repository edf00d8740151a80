"""Tests of the page and the JavaScript client, in Chromium."""
