"""Recognizers: what turns an utterance of audio into a hypothesis."""
