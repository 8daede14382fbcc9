"""What retrieval is about: documents, where to look for them, and what was found."""

from typing import NamedTuple


class Document(NamedTuple):
    """One text to be found. ``scope`` is matched exactly; a new document of the same ``id`` takes its place."""

    id: str
    scope: str
    subject: str
    predicate: str
    text: str
    seq: int = 0


class Where(NamedTuple):
    """Which documents to look at: ``subject`` is exact, or a prefix when it ends in ``/``; "" is any."""

    scope: str
    subject: str = ""
    predicate: str = ""


class Hit(NamedTuple):
    """A document that was found; ``score`` is 0 to 1 among what this query found, higher is better."""

    id: str
    score: float


class Weights(NamedTuple):
    """What words and meaning count for; chosen on LoCoMo (docs/retrieval.md)."""

    lexical: float = 0.5
    vector: float = 0.5


EQUAL = Weights()


def embedded_text(document: Document) -> str:
    """What of a document is given to the model: names are written as words, since models know no identifiers."""
    names = " ".join(part for part in (document.subject, document.predicate) if part)
    plain = names.translate(_AS_WORDS).strip()
    return f"{plain}: {document.text}" if plain else document.text


_AS_WORDS = str.maketrans("/_.-", "    ")
