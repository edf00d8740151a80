"""Qwen3-ASR and Whisper on vLLM's engine."""
