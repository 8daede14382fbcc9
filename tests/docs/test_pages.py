"""What the pages repeat from the code is what the code says: diagrams, tables, options; and links lead somewhere."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest

from agents.planner.planning import Inputs
from agents.planner.playbook import PlaybookSource
from console.demo.command import demo
from mesh import records, streams
from mesh.lifecycle import ACTION, APPROVAL, TASK, Lifecycle
from mesh.quarantine import Reason
from mesh.records import Causation, Context, Event, Header
from mesh.settings import PREFIX, Settings
from mesh.site import stream_specs
from packs.retail.pack import RetailOptions
from packs.retail.shop.faults import Faults
from policy_service.annotations import KNOWN
from tests.docs.pages import ROOT, fences

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PAGES.append(ROOT / "deploy" / "README.md")

_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_DAY_S = 86_400


def table(page: Path, *head: str) -> list[list[str]]:
    """The rows of the table with this head."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"| {' | '.join(head)} |") + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def coded(cell: str) -> list[str]:
    """What stands in back-quotes in a cell."""
    return _CODE.findall(cell)


@pytest.mark.parametrize("lifecycle", [TASK, ACTION, APPROVAL], ids=lambda lifecycle: lifecycle.name)
def test_the_diagrams_of_the_lifecycles_are_the_tables(lifecycle: Lifecycle[Any, Any]) -> None:
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    diagrams = [fence.text.rstrip("\n") for fence in fences(text) if fence.language == "mermaid"]
    assert lifecycle.mermaid() in diagrams


def test_the_table_of_records_has_every_kind_and_field() -> None:
    rows = table(DOCS / "journal.md", "kind", "written by", "last token", "fields besides `header`")
    said = {coded(kind)[0]: coded(fields) for kind, _, _, fields in rows}
    known = {
        str(kind.__struct_config__.tag): [name for name in kind.__struct_fields__ if name != "header"]
        for kind in get_args(records.AnyRecord)
    }
    assert said == known


def test_the_table_of_streams_is_what_a_site_makes() -> None:
    rows = table(DOCS / "journal.md", "stream", "subjects", "kept", "largest message")
    said = {coded(name)[0]: (coded(filters), kept, largest) for name, filters, kept, largest in rows}
    known = {}
    for spec in stream_specs(Settings().bus):
        age = f"{spec.max_age_s / _DAY_S:g} days" if spec.max_age_s else "for ever"
        largest = f"{spec.max_msg_size // 1024} KiB" if spec.max_msg_size > 0 else "what the server takes"
        known[spec.name] = (list(spec.subjects), f"{age} (`bus.{spec.name.lower()}_max_age_s`)", largest)
    assert said == known


def test_the_table_of_consumers_is_what_a_site_makes() -> None:
    rows = table(DOCS / "journal.md", "consumer", "stream", "filters")
    said = [(coded(name)[0], coded(stream)[0], tuple(coded(filters))) for name, stream, filters in rows]
    assert said == [(stage.stage, stage.stream, stage.filters) for stage in streams.STAGES]


def test_the_table_of_buckets_is_what_a_site_makes() -> None:
    rows = table(DOCS / "journal.md", "bucket", "values live", "versions kept", "holds")
    said = [(coded(name)[0], live, int(kept)) for name, live, kept, _ in rows]
    known = [(spec.name, f"{spec.ttl_s:g} s" if spec.ttl_s else "for ever", spec.history) for spec in (streams.BUCKETS)]
    assert said == known


def test_the_table_of_quarantine_has_every_reason() -> None:
    rows = table(DOCS / "journal.md", "reason", "what was refused")
    assert [coded(reason)[0] for reason, _ in rows] == list(Reason)


def settings(model: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting with its default, as the page writes them."""
    for each in msgspec.structs.fields(model):
        if isinstance(each.type, type) and issubclass(each.type, msgspec.Struct):
            yield from settings(each.type, f"{prefix}{each.name}.")
        else:
            default = "" if each.default is msgspec.NODEFAULT else each.default
            yield prefix + each.name, f"{default:.7g}" if isinstance(default, float) else str(default)


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    rows = table(DOCS / "settings.md", "setting", "default", "takes", "what it is")
    said = [(coded(name)[0], "".join(coded(default))) for name, default, _, _ in rows]
    assert said == list(settings(Settings))


def test_the_limits_of_settings_are_those_of_the_code() -> None:
    rows = table(DOCS / "settings.md", "setting", "default", "takes", "what it is")
    takes = {coded(name)[0]: limits for name, _, limits, _ in rows}
    for name, limits in takes.items():
        section, _, key = name.rpartition(".")
        model = type(attrgetter(section)(Settings())) if section else Settings
        kind = msgspec.json.schema(model)["$defs"][model.__name__]["properties"].get(key, {}) if section else {}
        if kind.get("maximum") == 31_536_000:
            assert limits == "above 0", name
        elif "minimum" in kind and "maximum" in kind:
            # 0 and 0.0 are one to typing's cache: which of them stands here depends on what was imported first.
            assert limits == f"{kind['minimum']:.12g} to {kind['maximum']:.12g}", name
        elif "minimum" in kind:
            assert limits == f"{kind['minimum']} or more", name
        elif "enum" in kind:
            assert sorted(coded(limits)) == sorted(kind["enum"]), name


def test_the_name_of_a_variable_is_as_the_page_says() -> None:
    assert f"`{PREFIX}<SECTION>__<KEY>`" in (DOCS / "settings.md").read_text(encoding="utf-8")


def test_the_readme_has_every_option_of_the_demonstration() -> None:
    rows = table(ROOT / "README.md", "option", "what it does")
    said = {coded(option)[0].split()[0] for option, _ in rows}
    assert said == {param.opts[0] for param in demo.params if isinstance(param, click.Option)}


def test_the_readme_has_every_fault_of_the_shop() -> None:
    rows = table(ROOT / "README.md", "option", "what it does")
    said = next(coded(what) for option, what in rows if option == "`--faults JSON`")
    assert sorted(said) == sorted(Faults.__struct_fields__)


def test_the_table_of_the_retail_options_has_every_option_with_its_default() -> None:
    rows = table(DOCS / "settings.md", "option", "default", "what it is")
    said = [(name, "".join(coded(default))) for names, default, _ in rows for name in coded(names)]
    assert said == list(settings(RetailOptions))


def test_the_table_of_playbook_keys_has_every_key() -> None:
    rows = table(DOCS / "packs.md", "key", "what it is")
    assert sorted(coded(key)[0] for key, _ in rows) == sorted(PlaybookSource.__struct_fields__)


def test_the_table_of_variables_has_all_that_expressions_see() -> None:
    rows = table(DOCS / "packs.md", "variable", "what it is")
    context = Context(
        header=Header(
            task_id="t",
            domain="d",
            causation=Causation(stream="EVENTS", subject="event.d.x", seq=1),
            writer="docs",
            at=datetime(2026, 1, 2, tzinfo=UTC),
        ),
        event=Event(id="e", source="/s", type="d.x", time=None, digest="", seq=1, accepted_at=datetime.now(UTC)),
        data=msgspec.Raw(b"{}"),
        entity="t",
    )
    assert {coded(name)[0] for name, _ in rows} == {
        *Inputs(context).variables.names(),
        "effect_keys",
        "parameters",
    }


def test_the_table_of_annotations_has_every_annotation() -> None:
    rows = table(DOCS / "policies.md", "annotation", "where", "what it does")
    assert sorted(coded(name)[0] for name, _, _ in rows) == [f"@{name}" for name in KNOWN]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_index_names_every_page_and_decision() -> None:
    links = set(_LINK.findall((DOCS / "index.md").read_text(encoding="utf-8")))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"index.md"}
    # The pages of alerts have an index of their own, which tests/deploy holds to them.
    assert {page for page in pages if not page.startswith("operations/") or page.endswith("/index.md")} <= links


def test_decisions_are_numbered_and_say_what_they_were_chosen_over() -> None:
    decisions = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        for part in ("Context", "Decision", "Chosen over", "Consequence"):
            assert f"**{part}.**" in text, path.name
