"""What a database is given to do, and what it answers: the same for every engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mesh.clock import unix
from mesh.errors import ToolRefusedError
from mesh.mounts.statement import Statement

_SHARE = 0.8  # of the time that is left


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: rows by column name, how many were changed, and whether there were more rows than are taken."""

    rows: tuple[dict[str, Any], ...] = ()
    changed: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A statement with its values. ``digest`` is of all that it is, so that a key cannot stand for two things."""

    tool: str
    statement: Statement
    values: Mapping[str, Any]
    digest: str
    changes: int | None
    rows_max: int
    max_bytes: int
    timeout_s: float

    def answer(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], changed: int, *, effect: bool) -> str:
        """The answer as JSON; raises ``ToolRefusedError`` for one that is not what was declared, or too large.

        ``rows`` has one more than ``rows_max`` where there were more. An effect that answers too much is refused whole.
        """
        more = len(rows) > self.rows_max
        if effect and more:
            raise ToolRefusedError("too_many_rows", f"{self.tool} answers more than {self.rows_max} rows")
        if effect and self.changes is not None and changed != self.changes:
            raise ToolRefusedError("other_changes", f"{self.tool} would change {changed} rows, not {self.changes}")
        if len(set(columns)) != len(columns):
            raise ToolRefusedError("same_columns", f"{self.tool} answers two columns of one name: name them with AS")
        found = Rows(
            rows=tuple(dict(zip(columns, row, strict=True)) for row in rows[: self.rows_max]),
            changed=changed if effect else 0,
            more=more,
        )
        try:
            text = msgspec.json.encode(found).decode()
        except (TypeError, ValueError) as error:
            raise ToolRefusedError("no_json", f"{self.tool} answers what is no JSON: {error}") from error
        if len(text) > self.max_bytes:
            raise ToolRefusedError("too_large", f"{self.tool} answers more than {self.max_bytes} bytes")
        return text

    def again(self, digest: str, answer: str) -> Rows:
        """The answer of then; raises ``ToolRefusedError`` when the key stands for something else."""
        if digest != self.digest:
            raise ToolRefusedError("key_used", f"the key was used for other work than this call of {self.tool}")
        return rows_of(answer)


def until(call_by: float) -> float:
    """When a database gives up, so that there is time left to say what became of the call."""
    now = unix()
    return now + _SHARE * (call_by - now)


def rows_of(answer: str) -> Rows:
    """An answer as it was kept."""
    return msgspec.json.decode(answer, type=Rows)
