"""Finals in another language, by a translator that the operator of the server names."""

from __future__ import annotations

from typing import Protocol

from streaming_asr.core.annotator import Annotator, Waiting, Watch
from streaming_asr.core.events import Final, SessionWarning, Translation
from streaming_asr.core.options import OptionError, SessionOptions


class Translator(Protocol):
    """Translates texts."""

    async def translate(self, text: str, source: str | None, target: str) -> str | None:
        """The text in another language. Cancelling the call gives the work up.

        Args:
            source: ISO 639-1 code, if it is known.
            target: language tag.

        Returns:
            None if it can't be had, which is logged.
        """


class Translated(Annotator):
    """Has each final translated after it was sent."""

    name = "translation"
    options = ("translate_to",)
    follow_ms = 15_000

    def __init__(self, translator: Translator, target: str) -> None:
        self._translator = translator
        self._target = target

    def follow(self, final: Final) -> Watch | None:
        same = final.language is not None and final.language == self._target.lower()
        # Nobody can be sent the translation of a recording.
        return None if self.recorded or same or not final.text.strip() else self._translate(final)

    def _translate(self, final: Final) -> Watch:
        text = yield Waiting(lambda: self._translator.translate(final.text, final.language, self._target))
        if text is None:
            message = "The translation of this utterance failed, and is not sent."
            return [SessionWarning("annotation_failed", message, final.channel, final.utterance)]
        return [Translation(final.utterance, final.channel, text, self._target)]


def translated(options: SessionOptions, translator: Translator | None) -> Translated | None:
    """The annotator that the options ask for, if they do.

    Raises:
        OptionError: a translation is asked for, and the server has no translator.
    """
    if options.translate_to is None:
        return None
    if translator is None:
        raise OptionError("translate_to", "this server has no translator; start it with --translate-url")
    return Translated(translator, options.translate_to)
