"""The AsyncAPI document of the bus: valid by AsyncAPI's own schema, current, of one mind with permissions and code."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from console.bus.asyncapi import document, meets
from mesh import subjects
from mesh.pack import load_packs
from mesh.permissions import ROLES
from mesh.service import offered
from mesh.streams import STREAM_NAMES
from tests.docs.pages import ROOT

OFFICIAL = ROOT / "tests/mcp_servers/node_modules/@asyncapi/specs/schemas/3.0.0.json"
BUS: dict[str, Any] = msgspec.to_builtins(document(load_packs(("retail",)), offered()))


def walk(part: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from walk(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from walk(inner)


def find(reference: str) -> Any:
    """What a reference leads to."""
    at: Any = BUS
    for part in reference.removeprefix("#/").split("/"):
        at = at[part]
    return at


def test_it_is_valid_by_the_schema_of_asyncapi() -> None:
    assert OFFICIAL.is_file(), "run `make test`, which installs it"
    official = Draft7Validator(json.loads(OFFICIAL.read_text("utf-8")))
    assert [error.message for error in official.iter_errors(BUS)] == []
    del BUS_COPY["channels"]["quarantine"]["address"], BUS_COPY["info"]["title"]
    assert [error.message for error in official.iter_errors(BUS_COPY)]


BUS_COPY: dict[str, Any] = json.loads(json.dumps(BUS))


def test_the_committed_copy_is_current() -> None:
    kept = json.loads((ROOT / "docs/asyncapi.json").read_text("utf-8"))
    assert kept == json.loads(json.dumps(BUS)), "write it anew: workmesh bus asyncapi retail --out docs/asyncapi.json"


def test_every_reference_leads_somewhere_and_every_schema_is_valid() -> None:
    for each in walk(BUS):
        if isinstance(each.get("$ref"), str) and each["$ref"].startswith("#/components"):
            find(each["$ref"])
        if "schemaFormat" in each:
            Draft202012Validator.check_schema(each["schema"])
    for schema in BUS["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_kind_of_record_stream_and_verb_has_a_channel() -> None:
    addresses = {channel["address"] for channel in BUS["channels"].values()}
    assert {f"task.{kind}.{{domain}}.{{task}}.{{step}}" for kind in subjects.KINDS} <= addresses
    assert {f"svc.{service}.{verb}" for service, verbs in offered().items() for verb in verbs} <= addresses
    assert {channel.get("x-nats-stream") for channel in BUS["channels"].values()} >= set(STREAM_NAMES)


def test_operations_say_what_the_roles_may() -> None:
    operations = BUS["operations"]
    assert set(ROLES) >= {name.partition("-")[0] for name in operations}
    assert operations["executor-sends-task_effect"]["action"] == "send"
    assert "planner-sends-task_effect" not in operations
    assert operations["policy-receives-task_plan"]["x-nats-consumer"] == "policy"
    assert operations["planner-sends-svc_memory_recall"]["reply"]["messages"][0]["$ref"].endswith("recall-answer")
    assert "planner-sends-svc_memory_forget" not in operations


@pytest.mark.parametrize(
    ("pattern", "subject", "common"),
    [
        ("task.>", "task.plan.*.*.*", True),
        ("task.plan.*.*.-", "task.plan.*.*.*", True),
        ("event.>", "task.plan.*.*.*", False),
        ("svc.memory.recall", "svc.memory.recall", True),
        ("svc.memory.recall", "svc.memory.forget", False),
        ("task.plan", "task.plan.*.*.*", False),
        ("control.learned.>", "control.learned.>", True),
    ],
)
def test_a_permission_meets_a_channel_where_they_have_a_subject_in_common(
    pattern: str, subject: str, common: bool
) -> None:
    assert meets(pattern, subject) is common
