"""A task's records as a graph: which record led to which, laid out in columns. Drawn by the template as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.journal import Stored
from mesh.records import Approval, Decision, Effect, Outcome, Plan, Result

WIDTH, HEIGHT = 150, 46
_GAP_X, _GAP_Y = 44, 16
_LABEL_MAX = 21
_NODES_MAX = 300


@dataclass(frozen=True, slots=True)
class Node:
    """A record, and where it stands."""

    seq: int
    kind: str
    label: str
    tone: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Edge:
    """One record led to another: the path between them."""

    path: str


@dataclass(frozen=True, slots=True)
class Graph:
    """All of it, and how large it is."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


def graph_of(items: Sequence[Stored]) -> Graph:
    """The graph of a task's records; a record stands one column right of the one that led to it."""
    items = items[:_NODES_MAX]
    column: dict[int, int] = {}
    rows: dict[int, int] = {}
    place: dict[int, tuple[int, int]] = {}
    for item in items:
        cause = _cause(item)
        column[item.seq] = column[cause] + 1 if cause in column else 0
        row = max(rows.get(column[item.seq], 0), place[cause][1] if cause in place else 0)
        rows[column[item.seq]] = row + 1
        place[item.seq] = (column[item.seq], row)
    nodes = tuple(
        Node(item.seq, item.record.kind, _label(item), _tone(item), *_corner(*place[item.seq])) for item in items
    )
    edges = tuple(
        Edge(_path(_corner(*place[cause]), _corner(*place[item.seq])))
        for item in items
        if (cause := _cause(item)) in place
    )
    width = max((node.x for node in nodes), default=0) + WIDTH + 2
    height = max((node.y for node in nodes), default=0) + HEIGHT + 2
    return Graph(nodes, edges, width, height)


def _cause(item: Stored) -> int:
    """The sequence of the record that led to this one; 0 for one that is no record of the task."""
    cause = item.record.header.causation
    return cause.seq if cause.stream == "JOURNAL" else 0


def _corner(column: int, row: int) -> tuple[int, int]:
    return 1 + column * (WIDTH + _GAP_X), 1 + row * (HEIGHT + _GAP_Y)


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT // 2
    x2, y2 = end[0], end[1] + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"


def _label(item: Stored) -> str:
    match item.record:
        case Plan(refusal=refusal, playbook=playbook):
            found = "refused" if refusal else playbook
        case Decision(verdict=verdict):
            found = str(verdict).replace("_", " ")
        case Approval(statement=said):
            found = f"{said.word} by {said.person}"
        case Effect(tool=tool):
            found = tool
        case Result(status=status, tool=tool):
            found = f"{status}".replace("_", " ")
        case Outcome(status=status):
            found = str(status)
        case _:
            found = item.record.header.writer
    return found if len(found) <= _LABEL_MAX else found[: _LABEL_MAX - 1] + "\N{HORIZONTAL ELLIPSIS}"


_TONES = {
    "allow": "good",
    "completed": "good",
    "succeeded": "good",
    "approve": "good",
    "needs_approval": "wait",
    "in_doubt": "wait",
    "deny": "bad",
    "denied": "bad",
    "failed": "bad",
    "reject": "bad",
    "expired": "bad",
    "refused": "bad",
}


def _tone(item: Stored) -> str:
    match item.record:
        case Decision(verdict=word):
            return _TONES.get(word, "plain")
        case Approval(statement=said):
            return _TONES.get(said.word, "plain")
        case Result(status=status):
            return _TONES.get(status, "plain")
        case Outcome(status=ending):
            return _TONES.get(ending, "plain")
    return "plain"
