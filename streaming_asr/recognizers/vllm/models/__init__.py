"""What is particular to a model under vLLM: its prompt, the form its audio takes, how its answer is read."""
