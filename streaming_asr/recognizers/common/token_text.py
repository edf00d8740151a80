"""Text of single tokens of a byte-level BPE vocabulary (GPT-2, Whisper, Qwen).

Such a vocabulary writes each byte as one printable character: the printable Latin-1 characters stand for themselves,
the other bytes for the characters from U+0100 on. Undoing that per token keeps every piece exact, where decoding the
text and splitting it again would not.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable


def _bytes_of_characters() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTE = _bytes_of_characters()


class TokenText:
    """Turns token ids into pieces of text that join to the whole.

    Args:
        symbol: returns the vocabulary's entry of a token id, or None for an id that it lacks.
    """

    def __init__(self, symbol: Callable[[int], str | None]) -> None:
        self._symbol = symbol

    def pieces(self, tokens: Iterable[int]) -> tuple[str, ...]:
        """Text of each token. A character spread over several tokens is whole in the last of them.

        The first visible piece has no leading space. Bytes that are not UTF-8 become U+FFFD.
        """
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces = [utf8.decode(self._bytes(token)) for token in tokens]
        if pieces:
            pieces[-1] += utf8.decode(b"", final=True)
        for n, piece in enumerate(pieces):
            pieces[n] = piece.lstrip()
            if pieces[n]:
                break
        return tuple(pieces)

    def _bytes(self, token: int) -> bytes:
        symbol = self._symbol(token) or ""
        try:
            return bytes(_BYTE[character] for character in symbol)
        except KeyError:  # An added token, written as it is.
            return symbol.encode()
