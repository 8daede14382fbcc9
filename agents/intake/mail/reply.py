"""What the sender wrote new, apart from what is quoted, forwarded, or stands below every message as a signature.

Each line is looked at once, by patterns that need no second look (docs/decisions/0053). A quote ends only where marks
(``>``) end; behind a header block or an attribution without marks everything is quoted.
"""

import re
from dataclasses import dataclass

_LONGEST_LINE = 400
_ATTRIBUTIONS = (  # how it begins, how it ends; over at most three lines
    (r"on\b", r"\bwrote:"),
    (r"(am|at|um)\b", r"\bschrieb\b.{0,120}:"),
    (r"(le|el)\b", r"\b(a écrit|escribió|ha escrit|va escriure)\s?:"),
    (r"op\b", r"\b(schreef|heeft)\b.{0,160}:"),
    (r"il\b", r"\bha scritto\s?:"),
    (r"(em|a|no dia)\b", r"\b(escreveu|kirjoitti)\s?:"),
    (r"(den|d\.|på|på|fra)\b", r"\b(skrev|skrev følgende)\b.{0,120}:"),
    (r"(w dniu|dnia)\b", r"\b(pisze|napisał(\(a\)|a)?)\b.{0,120}:"),
)
_ANY_BEGIN = re.compile("|".join(f"({begin})" for begin, _ in _ATTRIBUTIONS))
_BEGINS = [(re.compile(begin), re.compile(f".*{end}")) for begin, end in _ATTRIBUTIONS]
_AUTHOR = re.compile(
    r".{2,200}\b(wrote|writes|schrieb( am .{0,80})?|a écrit|escribió|schreef( op .{0,80})?|ha scritto|escreveu)\s?:"
)
_SEPARATOR = re.compile(
    r"[-_*]{3,}\s*(original message|original appointment|forwarded message|urspr[uü]ngliche nachricht"
    r"|original[- ]?nachricht|weitergeleitete nachricht|message (d'origine|original|transféré|initial)"
    r"|courriel original|mensaje (original|reenviado)|oorspronkelijk(e)? bericht|doorgestuurd bericht"
    r"|messaggio (originale|inoltrato)|mensagem (original|encaminhada))\s*[-_*]*"
    r"|(begin forwarded message|anfang der weitergeleiteten nachricht|début du message (transféré|réexpédié)"
    r"|inicio del mensaje reenviado|begin doorgestuurd bericht|inizio messaggio inoltrato):?"
)
_FIELD = re.compile(
    r"\*?(from|sent|date|to|cc|subject|reply-to|von|gesendet|datum|an|betreff|de|envoyé|date|à|a|objet|para"
    r"|fecha|enviado(?: el)?|asunto|van|verzonden|aan|onderwerp|da|inviato|oggetto|enviada(?: em)?"
    r"|assunto|data)\s{0,2}:\*?(\s|$)"
)
_FIRST_FIELD = re.compile(r"\*?(from|von|de|van|da)\s{0,2}:")
_DEVICE = re.compile(
    r"(sent (from|via|with|using) (my |the |outlook|mail|yahoo|gmail|proton|bell |blackberry|iphone)"
    r"|sent (from|via) (android|samsung|\S+ mobile)"
    r"|get outlook for |von mein\w* .{2,40} gesendet|gesendet (von|mit) (mein|outlook|der|gmx|web\.de|mail)"
    r"|diese nachricht wurde von mein\w* .{2,60} gesendet|envoyé (de|depuis|à partir de) (mon|ma|mail|outlook|yahoo)"
    r"|enviado desde (mi|mail|outlook|yahoo)|verzonden (vanaf|met|via) (mijn|mail|outlook)|verstuurd vanaf mijn"
    r"|inviato da(l mio| outlook| mail)|enviado do meu).{0,120}"
)
_RULE = re.compile(r"[-_=*]{5,}")
_SIGNATURE_LINES = 40


@dataclass(frozen=True, slots=True)
class Reply:
    """A text in three; ``text`` is empty when the sender wrote nothing new."""

    text: str
    quoted: str
    signature: str


def cut_reply(text: str) -> Reply:
    """Part a plain text into what is new, what is quoted, and the signature."""
    lines = [line.rstrip(" \t\xa0") if line.rstrip("\xa0") != "-- " else "--" for line in text.split("\n")]
    marks = _classes(lines)
    _sign(lines, marks)
    parts = {mark: "\n".join(line for line, own in zip(lines, marks, strict=True) if own == mark) for mark in "NQS"}
    return Reply(_trimmed(parts["N"]), _trimmed(parts["Q"]), _trimmed(parts["S"]))


def _trimmed(text: str) -> str:
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n")


def _classes(lines: list[str]) -> list[str]:
    marks = ["N"] * len(lines)
    folded = [line[:_LONGEST_LINE].strip().lower() for line in lines]
    after = _next_filled(folded)
    at = 0
    while at < len(lines):
        length = _attribution(folded, at)
        follows = after[at + length] if length else -1
        if lines[at].startswith(">"):
            marks[at] = "Q"
        elif length and follows >= 0 and lines[follows].startswith(">"):
            marks[at : at + length] = ["Q"] * length
            at += length
            continue
        elif (length and _dated(folded[at : at + length])) or _separates(folded, after, at):
            start = at - 1 if at and _RULE.fullmatch(folded[at - 1]) else at
            marks[start:] = ["Q"] * (len(lines) - start)
            break
        at += 1
    return marks


def _next_filled(lines: list[str]) -> list[int]:
    """For each line, and one past the end, the first line from there on with something in it; -1 when there is none."""
    found = [-1] * (len(lines) + 1)
    for at in range(len(lines) - 1, -1, -1):
        found[at] = at if lines[at] else found[at + 1]
    return found


def _attribution(lines: list[str], at: int) -> int:
    """How many lines the attribution that begins here takes; 0 when none does."""
    line = lines[at]
    for begin, end in _BEGINS if _ANY_BEGIN.match(line) else ():
        if not begin.match(line):
            continue
        joined = line
        for length in (1, 2, 3):
            if end.fullmatch(joined):
                return length
            if at + length >= len(lines) or not lines[at + length]:
                break
            joined = f"{joined} {lines[at + length]}"
    if not line.endswith(":"):
        return 0
    follows = next((each for each in lines[at + 1 : at + 3] if each), "")
    return 1 if follows.startswith(">") and _AUTHOR.fullmatch(line) else 0


def _dated(lines: list[str]) -> bool:
    joined = " ".join(lines)
    return len(joined) > 12 and (sum(each.isdigit() for each in joined) >= 3 or "@" in joined)


def _separates(lines: list[str], after: list[int], at: int) -> bool:
    line = lines[at]
    if _SEPARATOR.fullmatch(line):
        return True
    if not _FIRST_FIELD.match(line):
        return False
    fields, look = 0, at
    for _ in range(6):
        if look < 0 or not _FIELD.match(lines[look]):
            break
        fields += 1
        look = after[look + 1]
    return fields >= 3


def _sign(lines: list[str], marks: list[str]) -> None:
    """Mark the signature among the new lines: from ``--`` to the quote or the end, or a closing line of a device."""
    for at, line in enumerate(lines):
        if line == "--" and marks[at] == "N":
            end = next((each for each in range(at, len(lines)) if marks[each] != "N"), len(lines))
            filled = sum(1 for each in lines[at:end] if each)
            if filled <= _SIGNATURE_LINES:
                marks[at:end] = ["S"] * (end - at)
            break
    new = [at for at, mark in enumerate(marks) if mark == "N" and lines[at].strip()]
    rules: list[int] = []
    for at in reversed(new[-6:]):
        folded = lines[at][:_LONGEST_LINE].strip().lower()
        if _DEVICE.fullmatch(folded):
            first = next((each for each in reversed([n for n in new if n < at][-2:])), -1)
            begins = first if first >= 0 and _RULE.fullmatch(lines[first].strip()) else at
            for each in range(begins, new[-1] + 1):
                marks[each] = "S" if marks[each] == "N" else marks[each]
            break
        rules.append(at)
        if len(rules) > 3:
            break


def unflow(text: str, *, delsp: bool) -> str:
    """Text of ``format=flowed`` (RFC 3676) with its lines joined; quotes keep their marks."""
    out: list[str] = []
    words: list[str] = []
    open_depth = -1
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        plain = line[depth:].removeprefix(" ") if depth or line.startswith(" ") else line
        flows = plain.endswith(" ") and plain != "-- "
        if words and (depth != open_depth or plain == "-- "):
            out.append(_marked("".join(words), open_depth))
            words = []
        words.append(plain[:-1] if flows and delsp else plain)
        open_depth = depth
        if not flows:
            out.append(_marked("".join(words), depth))
            words = []
    if words:
        out.append(_marked("".join(words), open_depth))
    return "\n".join(out)


def _marked(text: str, depth: int) -> str:
    return f"{'>' * depth} {text}" if depth else text
