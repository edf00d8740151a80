"""A server under hours of changing use: what it takes must not grow, and nothing may be left behind."""
