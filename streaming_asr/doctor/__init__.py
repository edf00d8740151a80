"""What this machine can run, what it lacks, and the command that fixes it."""

from streaming_asr.doctor.report import main
from streaming_asr.doctor.uses import what_to_install

__all__ = ["main", "what_to_install"]
