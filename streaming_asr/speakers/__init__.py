"""What tells one voice from another: networks whose embeddings of the same speaker are alike."""
