"""Bytes to text: the declared charset where it is true, else the best guess, with a note of it."""

import codecs
import re

from charset_normalizer import from_bytes

from agents.intake.mail.notes import Notes

_TEXT = re.compile(
    r"utf-(8|16|32)(-[lb]e)?|ascii|iso8859-\d+|cp(125\d|437|72\d|737|775|85\d|86\d|874|932|949|950|1006|1140)"
    r"|koi8-[rut]|mac-\w+|big5(hkscs)?|gb(2312|k|18030)|hz|euc_\w+|shift_jis\w*|johab|iso2022_\w+|tis-620|kz1048|ptcp154"
)  # the text codecs that are charsets of mail: idna and punycode take quadratic time, others are none
_WIDER = {  # as browsers do: the name is used for its superset (WHATWG Encoding, "labels")
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "iso2022_jp": "iso2022_jp_ext",
}
_SINGLE = re.compile(r"ascii|iso8859|cp(125|437|72|737|775|85|86|874|1006)|koi8|mac-|tis-620")
_SAMPLE = 16 * 1024
_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127))
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def codec_name(charset: str) -> str | None:
    """The name of Python's codec for a charset of MIME, or None for what is no charset."""
    label = charset.strip().strip("\"'").lower()
    label = {"ks_c_5601-1987": "cp949", "x-sjis": "shift_jis", "utf8mb4": "utf-8", "cp-850": "cp850"}.get(label, label)
    if not re.fullmatch(r"[a-z0-9_.:-]{1,40}", label):
        return None
    for each in (label, label.removeprefix("x-"), re.sub(r"^(windows|cp)-?(?=\d)", "cp", label)):
        try:
            name = codecs.lookup(each).name
        except (LookupError, ValueError):
            continue
        if _TEXT.fullmatch(name):
            return name
    return None


def to_text(data: bytes, charset: str, place: str, notes: Notes) -> str:
    """Text of ``data``, never failing; control characters are dropped and newlines made one."""
    text = _decode(data, charset, place, notes)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    clean = text.translate(_CONTROLS)
    if len(clean) != len(text) and "\x00" in text:
        notes.add(place, "NULs left out")
    return clean


def _decode(data: bytes, charset: str, place: str, notes: Notes) -> str:
    for bom, name in _BOMS:
        if data.startswith(bom):
            return data.decode(name, "replace")
    codec = codec_name(charset) if charset else "ascii"
    if codec is None:
        notes.add(place, f"unknown charset {charset[:40]!r}")
        codec = "ascii"
    if data.isascii() and _SINGLE.match(codec):
        return data.decode("ascii")
    if _SINGLE.match(codec) or codec == "utf-8":
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            if codec != "utf-8":
                notes.add(place, f"declared {charset or 'no charset'}, is utf-8")
            return text
    if codec not in ("ascii", "utf-8"):
        try:
            return data.decode(_WIDER.get(codec, codec))
        except UnicodeDecodeError:
            pass
    return _guessed(data, charset, place, notes)


def _guessed(data: bytes, charset: str, place: str, notes: Notes) -> str:
    codec = codec_name(charset) if charset else None
    if codec not in (None, "ascii"):
        lossy = data.decode(_WIDER.get(codec, codec), "replace")
        others = sum(1 for each in lossy if each > "\x7f")
        if lossy.count("\ufffd") * 4 <= others:  # most of it is right: the charset is true, some bytes are broken
            notes.add(place, f"broken {charset}: some characters are lost")
            return lossy
    guess = _statistics(data) if notes.may_guess() else "cp1252"
    notes.add(place, f"declared {charset or 'no charset'}, guessed {guess}")
    return data.decode(guess, "replace")


def _statistics(data: bytes) -> str:
    first = next((at for at, byte in enumerate(data) if byte > 0x7F), 0)
    start = max(0, first - _SAMPLE // 4)
    best = from_bytes(data[start : start + _SAMPLE]).best()
    if best is None or not _TEXT.fullmatch(codecs.lookup(best.encoding).name):
        return "cp1252"
    return "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding
