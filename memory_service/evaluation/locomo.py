"""LoCoMo (Maharana et al. 2024), from a file given by path: turns as documents, questions with their evidence.

Both shapes of its files are read: a list of ``{sample_id, conversation, qa}`` (``locomo10.json``), and one
conversation a file with ``session_<n>``, ``session_<n>_date_time`` and ``qa`` side by side. The data is CC BY-NC and is
not shipped.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from memory_service.evaluation.labelled import EvaluationError, LabelledSet, Question
from memory_service.retrieval.documents import Document, Where

_SESSION = re.compile(r"session_(\d+)")
_EVIDENCE = re.compile(r"D:?(\d+):0*(\d+)")  # the files hold "D8:6; D9:17", "D:11:26" and "D30:05" too
# As in the authors' evaluation code.
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


class _Turn(msgspec.Struct):
    speaker: str
    dia_id: str
    text: str = ""
    blip_caption: str = ""


class _Question(msgspec.Struct):
    question: str
    category: int
    evidence: list[str] = []


def read_locomo(path: Path, *, plain: bool = False) -> LabelledSet:
    """The conversations of a file, each a scope; raises ``EvaluationError`` for a file of neither shape.

    A turn's text comes with its speaker, the date of its session and the caption of its picture; ``plain`` leaves the
    text alone. Questions without evidence among the turns are left out, and counted.
    """
    documents: list[Document] = []
    questions: list[Question] = []
    neighbours: dict[str, tuple[str, ...]] = {}
    left_out = 0
    for scope, conversation, asked in _conversations(path):
        turns = list(_documents(scope, conversation, plain))
        known = {document.id for document in turns}
        documents += turns
        neighbours |= _neighbours([document.id for document in turns])
        for question in asked:
            evidence = (f"{scope}/D{a}:{b}" for text in question.evidence for a, b in _EVIDENCE.findall(text))
            expected = frozenset(evidence) & known
            if expected:
                category = CATEGORIES.get(question.category, str(question.category))
                questions.append(Question(question.question, Where(scope), expected, category))
            else:
                left_out += 1
    return LabelledSet(tuple(documents), tuple(questions), neighbours, left_out)


def _conversations(path: Path) -> Iterator[tuple[str, Mapping[str, Any], list[_Question]]]:
    try:
        data = msgspec.json.decode(path.read_bytes())
        samples = data if isinstance(data, list) else [data]
        for number, sample in enumerate(samples):
            conversation = sample.get("conversation", sample)
            name = str(sample.get("sample_id", f"{path.stem}-{number}"))
            yield name, conversation, msgspec.convert(sample["qa"], list[_Question])
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path} has not the shape of LoCoMo: {error}") from error


def _documents(scope: str, conversation: Mapping[str, Any], plain: bool) -> Iterator[Document]:
    sessions = sorted(int(found[1]) for key in conversation if (found := _SESSION.fullmatch(key)))
    if not sessions:
        raise EvaluationError(f"conversation {scope} has no session_<n>")
    for number in sessions:
        date = str(conversation.get(f"session_{number}_date_time", ""))
        try:
            turns = msgspec.convert(conversation[f"session_{number}"] or [], list[_Turn])
        except msgspec.ValidationError as error:
            raise EvaluationError(f"session_{number} of conversation {scope}: {error}") from error
        for place, turn in enumerate(turns):
            text = turn.text if plain else f"{turn.text} {turn.blip_caption}".strip()
            names = ("", "") if plain else (turn.speaker, date)
            yield Document(f"{scope}/{turn.dia_id}", scope, *names, text, number * 10_000 + place)


def _neighbours(ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The turns before and after each, within its session."""
    found: dict[str, tuple[str, ...]] = {}
    for place, name in enumerate(ids):
        beside = (ids[at] for at in (place - 1, place + 1) if 0 <= at < len(ids))
        found[name] = tuple(other for other in beside if other.split(":")[0] == name.split(":")[0])
    return found
