"""What the texts that a session showed say of it: how steady they were, and how soon each word was to be read."""
