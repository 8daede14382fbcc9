"""A labelled set: documents, and questions with the ids that should be found. One JSON object a line."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from memory_service.retrieval.documents import Document, Where
from mesh.errors import WorkmeshError


class EvaluationError(WorkmeshError):
    """The file is not what an evaluation can use; the message names the line and what was expected."""


class LabelledDocument(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="document", tag_field="kind"
):
    """A text that can be found."""

    id: str
    text: str
    scope: str = "default"
    subject: str = ""
    predicate: str = ""


class LabelledQuestion(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="question", tag_field="kind"
):
    """A question and the documents that answer it."""

    text: str
    expected: tuple[str, ...]
    scope: str = "default"
    subject: str = ""
    predicate: str = ""
    category: str = "all"


class Question(msgspec.Struct, frozen=True):
    """What is asked, where, and what should be found."""

    text: str
    where: Where
    expected: frozenset[str]
    category: str


class LabelledSet(msgspec.Struct, frozen=True):
    """Documents and questions about them; ``neighbours`` are the ids that were said just before and after."""

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    neighbours: dict[str, tuple[str, ...]] = {}
    left_out: int = 0


_decode = msgspec.json.Decoder(LabelledDocument | LabelledQuestion).decode


def read_labelled(path: Path) -> LabelledSet:
    """The set in this file; raises ``EvaluationError`` for a line that is none, or an id that is not there."""
    documents, questions = [], []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            item = _decode(line)
        except msgspec.DecodeError as error:
            raise EvaluationError(f"{path}, line {number}: {error}") from error
        if isinstance(item, LabelledDocument):
            documents.append(Document(item.id, item.scope, item.subject, item.predicate, item.text, number))
        else:
            where = Where(item.scope, item.subject, item.predicate)
            questions.append(Question(item.text, where, frozenset(item.expected), item.category))
    _check(path, documents, questions)
    return LabelledSet(tuple(documents), tuple(questions))


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}") from error


def _check(path: Path, documents: Iterable[Document], questions: Iterable[Question]) -> None:
    known: set[str] = set()
    for document in documents:
        if document.id in known:
            raise EvaluationError(f"{path}: two documents have the id {document.id!r}")
        known.add(document.id)
    for question in questions:
        if not question.expected or not question.expected <= known:
            missing = ", ".join(sorted(question.expected - known)) or "nothing"
            raise EvaluationError(f"{path}: question {question.text!r} expects {missing}, which is no document's id")
