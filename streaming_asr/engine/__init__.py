"""Sessions and a recognizer driven by asyncio, and audio files read for them."""
