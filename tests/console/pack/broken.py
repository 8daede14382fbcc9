"""Ways to break the pack that ``workmesh pack new`` makes, and where each must be found."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Way:
    """In ``file``, ``old`` becomes ``new`` (no ``old``: the file goes); a finding's file, place, problem hold these."""

    name: str
    file: str
    old: str
    new: str
    found_in: str
    place: str
    problem: str

    def apply(self, folder: Path) -> None:
        """Break the pack in this folder."""
        path = folder / self.file
        if not self.old:
            path.unlink()
            return
        text = path.read_text(encoding="utf-8")
        assert self.old in text, f"{self.file} has no {self.old!r}"
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


PACK, BOOK = "rooms/pack.py", "rooms/playbooks/book.yaml"
CEDAR, CASES = "rooms/policies/rooms.cedar", "rooms/policies/cases/rooms.yaml"
SCHEMA, MAPPING = "rooms/policies/schema.cedarschema", "rooms/sources/requests.yaml"
EXPECTED = "rooms/sources/requests.samples/garden.expected.jsonl"
EVENTS = "rooms/sample/events.jsonl"

WAYS = (
    Way("taint", PACK, '"/note",', '"/remark",', "pack.py", "event type rooms.booking.requested", "/remark"),
    Way("domain", PACK, '"rooms.booking.requested"', '"room.booking.requested"', "pack.py", "room.booking", "`rooms.`"),
    Way("compensation", PACK, 'ion="rooms.cancel"', 'ion="rooms.undo"', "pack.py", "tool rooms.book", "rooms.undo"),
    Way("import", PACK, "from rooms.desk import Desk", "from rooms.desk import Till", "pack.py", "line ", "Till"),
    Way("syntax", PACK, "class DeskOptions(", "class DeskOptions((", "pack.py", "line ", "syntax"),
    Way("options", PACK, 'desk: str = "desk.db"', "desk: str", "pack.py", "options", "missing required field"),
    Way("tools", PACK, ": TOOLS,", ": TOOLS[9],", "pack.py", "line ", "IndexError"),
    Way("no README", "README.md", "", "", "README.md", "", "is missing"),
    Way("entry point", "pyproject.toml", "rooms.pack:pack", "rooms.pack:Room", "pyproject.toml", "", "no mesh"),
    Way("unknown tool", BOOK, "rooms.announce", "rooms.shout", "book.yaml", "step announce", "rooms.shout"),
    Way("argument", BOOK, "day: data.day", "date: data.day", "book.yaml", "step book", "argument 'date'"),
    Way("field", BOOK, "data.people", "data.persons", "book.yaml", "rationale", "no field persons"),
    Way("undo", BOOK, 'effect_keys["book"]', 'effect_keys["buy"]', "book.yaml", "compensation", "no step buy"),
    Way("YAML", BOOK, "refuse:\n", "refuse: [\n", "book.yaml", "line ", "while parsing"),
    Way("read", BOOK, "!reads.price", "!reads.prize", "book.yaml", "refuse", "no read prize"),
    Way("a cap", CEDAR, "when { context.amount == 0 }", "", "rooms.cedar", "policy announce.free", "any amount"),
    Way("Cedar", CEDAR, "context.facts.seats", "context.facts.chairs", "rooms.cedar", "book.seats", "chairs"),
    Way("no permit", SCHEMA, ', "rooms.announce"', "", "policies/", "", "rooms.announce"),
    Way(
        "a case",
        CASES,
        "amount: 10000\n",
        "amount: 90000\n",
        "cases/rooms.yaml",
        "case cheap",
        "needs_approval",
    ),
    Way("CEL", MAPPING, "int(body.people)", "int(body.people", "requests.yaml", "rule asked", "no CEL"),
    Way("type", MAPPING, "rooms.booking.req", "rooms.booking.ask", "requests.yaml", "rule asked", "no pack has"),
    Way("sample", MAPPING, "body.day", "body.people", "garden.form", "", "no valid event"),
    Way("expected", EXPECTED, '"people":6', '"people":7', "garden.expected.jsonl", "line 1 data", '"people":6'),
    Way("sample event", EVENTS, '"people":6', '"people":0', "sample/events.jsonl", "line 1/data/people", "rejected"),
)
