"""Wire protocols: messages of one client family <-> session calls and events."""
