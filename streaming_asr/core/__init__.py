"""What a session does with audio and hypotheses: plain objects, without an event loop or a clock."""
