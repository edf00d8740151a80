"""Voice activity detection: which frames of the audio are speech."""
