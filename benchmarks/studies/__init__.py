"""Measurements that one decision rests on, each a command of its own."""
