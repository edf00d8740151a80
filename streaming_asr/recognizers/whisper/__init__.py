"""Whisper under CTranslate2, and the parts of Whisper that do not depend on an engine."""
