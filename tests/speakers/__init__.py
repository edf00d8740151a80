"""Tests of what tells voices apart."""
