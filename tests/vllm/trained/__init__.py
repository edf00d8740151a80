"""A small Qwen3-ASR that was trained: it writes the words of a closed vocabulary, in English and Chinese."""
