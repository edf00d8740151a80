"""Language tags as clients write them (`en-US`, `EN`, `zh_Hans`, `eng`, `auto`) -> the codes of recognizers."""

from __future__ import annotations

import re
from collections.abc import Iterable

DETECT = frozenset({"", "auto", "mul", "multi", "und"})
"""What clients write for a language that is to be detected."""

_TAG = re.compile(r"(?P<language>[a-z]{2,3})([-_](?P<extended>[a-z]{3}))?([-_.@][a-z0-9]{1,8})*")
"""RFC 5646 section 2.1, of languages that have an ISO 639 code; and POSIX locales, such as `en_GB.UTF-8`."""

_PAIRS = """
    aar:aa abk:ab afr:af aka:ak alb:sq als:sq amh:am ara:ar arb:ar arg:an arm:hy asm:as ava:av ave:ae aym:ay aze:az
    azj:az bak:ba bam:bm baq:eu bel:be ben:bn bih:bh bis:bi bod:bo bos:bs bre:br bul:bg bur:my cat:ca ces:cs cha:ch
    che:ce chi:zh chu:cu chv:cv cmn:zh cor:kw cos:co cre:cr cym:cy cze:cs dan:da deu:de div:dv dut:nl dzo:dz ekk:et
    ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fre:fr fry:fy ful:ff geo:ka ger:de
    gla:gd gle:ga glg:gl glv:gv gre:el grn:gn guj:gu hat:ht hau:ha heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy
    ibo:ig ice:is ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks
    kat:ka kau:kr kaz:kk khk:mn khm:km kik:ki kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv
    lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg lvs:lv mac:mk mah:mh mal:ml mao:mi mar:mr may:ms mkd:mk mlg:mg mlt:mt
    mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nob:nb nor:no npi:ne nya:ny
    oci:oc oji:oj ori:or orm:om ory:or oss:os pan:pa per:fa pes:fa pli:pi plt:mg pol:pl por:pt pus:ps que:qu roh:rm
    ron:ro rum:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slo:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st
    spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv swh:sw tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th
    tib:bo tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz uzn:uz ven:ve vie:vi vol:vo
    wel:cy wln:wa wol:wo xho:xh ydd:yi yid:yi yor:yo zha:za zho:zh zsm:ms zul:zu
"""
_TWO_LETTERS = dict(pair.split(":") for pair in _PAIRS.split())
"""ISO 639-2 and 639-3 codes -> ISO 639-1: both codes of 639-2, and what 639-3 calls the standard variety."""

_EQUIVALENT: tuple[tuple[str, ...], ...] = (
    ("fil", "tl"),
    ("he", "iw"),
    ("id", "in"),
    ("jv", "jw"),
    ("nb", "no"),
    ("ro", "mo"),
    ("yi", "ji"),
)
"""Codes by which recognizers know the same language, as far as speech goes."""
_COVERED_BY = {"yue": "zh"}
"""Languages that a recognizer may know under another's code, if it has none of their own."""


def language_of(tag: str) -> str | None:
    """The ISO 639 code of a tag, ISO 639-1 where there is one; None for a language that is to be detected.

    Case, script and region are ignored. A code of two letters is returned as it is, known or not.

    Raises:
        ValueError: it is not a language tag.
    """
    tag = tag.strip().lower()
    if tag in DETECT:
        return None
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ValueError("not a language: use an ISO 639 code such as 'en', a tag such as 'en-US', or 'auto'")
    code = match["extended"] or match["language"]
    return _TWO_LETTERS.get(code, code)


def only_language(tags: Iterable[str]) -> str | None:
    """The language that all tags name; None if they name several, which leaves it to be detected.

    A tag that can't be read is returned as it is: an option with it is refused, and the error names it.
    """
    codes = set()
    for tag in tags:
        try:
            codes.add(language_of(tag))
        except ValueError:
            return tag
    return codes.pop() if len(codes) == 1 else None


def find_known(code: str, known: Iterable[str]) -> str | None:
    """The code by which a recognizer knows a language; None if it does not.

    Args:
        code: from `language_of`.
        known: the recognizer's codes.
    """
    candidates = [code, *(other for group in _EQUIVALENT if code in group for other in group)]
    if code in _COVERED_BY:
        candidates.append(_COVERED_BY[code])
    known = set(known)
    return next((candidate for candidate in candidates if candidate in known), None)
