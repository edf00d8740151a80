"""Wire protocols as a client speaks them: for each one a conversation without a socket, and one socket for all."""
