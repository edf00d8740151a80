"""OpenAI's HTTP interface: transcription of recordings, and client secrets."""
