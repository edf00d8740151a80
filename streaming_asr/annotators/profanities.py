"""English words that `profanity_filter` masks.

The list was made for this project and has its licence. It has words that are profane in any sense, not those that have
a harmless one (`ass` is here, `cock` and `dick` are not), and no slurs' histories: words for groups of people are here
where they are nothing but an insult.
"""

from __future__ import annotations

_STEMS = {
    "fuck": ("", "s", "ed", "er", "ers", "in", "in'", "ing", "ingly", "wit", "wits", "face", "head", "up"),
    "motherfuck": ("er", "ers", "in", "in'", "ing"),
    "clusterfuck": ("", "s"),
    "shit": ("", "s", "ty", "tier", "tiest", "ting", "ted", "ter", "head", "heads", "hole", "holes", "show", "storm"),
    "bullshit": ("", "s", "ting", "ted", "ter", "ters"),
    "horseshit": ("",),
    "dipshit": ("", "s"),
    "bitch": ("", "es", "ed", "ing", "y"),
    "cunt": ("", "s", "y"),
    "ass": ("", "es", "hole", "holes", "hat", "hats", "wipe", "wipes"),
    "arse": ("", "s", "hole", "holes"),
    "dumbass": ("", "es"),
    "jackass": ("", "es"),
    "badass": ("", "es"),
    "bastard": ("", "s"),
    "cocksuck": ("er", "ers", "ing"),
    "dickhead": ("", "s"),
    "wank": ("", "s", "ed", "er", "ers", "ing"),
    "twat": ("", "s"),
    "bollocks": ("",),
    "piss": ("", "ed", "er", "es", "ing"),
    "whore": ("", "s"),
    "slut": ("", "s", "ty"),
    "goddam": ("", "n", "ned", "nit"),
    "damn": ("", "ed", "it"),
    "nigger": ("", "s"),
    "nigga": ("", "s"),
    "faggot": ("", "s"),
}
PROFANITIES: tuple[str, ...] = tuple(
    dict.fromkeys(
        [*(stem + ending for stem, endings in _STEMS.items() for ending in endings), "god damn", "god damned"]
    )
)
