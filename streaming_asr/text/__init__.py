"""Final texts as timed words and as subtitles."""
