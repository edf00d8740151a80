"""OpenAI's realtime protocol, and those of vLLM and DashScope that derive from it."""
