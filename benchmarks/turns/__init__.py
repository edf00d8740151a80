"""How well ends of turns are decided: false cut-offs against delay, by the measure of LiveKit's eot-bench."""
