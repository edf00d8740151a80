"""The load generator: many people speaking to a server at once, each at the pace of speech."""
