"""The JSON Schemas of event types: valid 2020-12, of the same mind as perception, with text from outside marked."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from console.pack.commands import pack
from console.pack.schemas import TAINT, event_schema, event_schemas
from mesh.pack import EventType, load_packs

RETAIL = load_packs(("retail",))["retail"]
SAMPLE = [
    json.loads(line) for line in (RETAIL.playbooks.parent / "sample/events.jsonl").read_text("utf-8").splitlines()
]


def test_every_type_has_a_schema_with_a_name_of_its_own() -> None:
    schemas = event_schemas(RETAIL)
    assert [schema["title"] for schema in schemas] == [kind.name for kind in RETAIL.events]
    assert len({schema["$id"] for schema in schemas}) == len(schemas)
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
        assert schema["description"]


def test_the_schemas_accept_what_perception_accepts_of_the_sample() -> None:
    by_type = {schema["title"]: Draft202012Validator(schema) for schema in event_schemas(RETAIL)}
    kinds = {kind.name: kind.data for kind in RETAIL.events}
    fitting, refused = 0, 0
    for event in SAMPLE:
        if event.get("type") not in kinds:
            continue
        try:
            msgspec.convert(event.get("data"), kinds[event["type"]])
            fits = True
        except msgspec.ValidationError:
            fits = False
        valid = by_type[event["type"]].is_valid(event.get("data"))
        assert valid or not fits, event["id"]  # a rule over several fields is code, which no schema holds
        fitting, refused = fitting + fits, refused + (not valid)
    assert fitting > 10
    assert refused > 0


class Line(msgspec.Struct):
    """A line."""

    text: str


class Order(msgspec.Struct):
    """An order."""

    lines: list[Line]
    note: str = ""


def test_text_from_outside_is_marked_where_the_pointer_leads() -> None:
    schema = event_schema(EventType("shop.order.placed", Order, taint=("/note", "/lines/*/text")), "1")
    assert schema["$defs"]["Order"]["properties"]["note"][TAINT] == ["/note"]
    assert schema["$defs"]["Line"]["properties"]["text"][TAINT] == ["/lines/*/text"]


@pytest.mark.parametrize("kind", RETAIL.events, ids=lambda kind: kind.name)
def test_every_taint_of_the_retail_pack_is_marked(kind: EventType) -> None:
    def marks(part: Any) -> set[str]:
        if isinstance(part, list):
            return {mark for each in part for mark in marks(each)}
        if not isinstance(part, dict):
            return set()
        return {*part.get(TAINT, ()), *(mark for each in part.values() for mark in marks(each))}

    assert marks(event_schema(kind, "1")) == set(kind.taint)


def test_a_pattern_is_one_that_other_languages_know() -> None:
    text = msgspec.json.encode(event_schemas(RETAIL)).decode()
    assert '"pattern"' in text
    assert r"\\Z" not in text


def test_the_command_writes_one_file_for_each_type(tmp_path: Path) -> None:
    done = CliRunner().invoke(pack, ["schemas", "retail", "--out", str(tmp_path / "schemas")])
    assert done.exit_code == 0
    written = {path.name for path in (tmp_path / "schemas").iterdir()}
    assert written == {f"{kind.name}.schema.json" for kind in RETAIL.events}
