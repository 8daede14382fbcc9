"""Logs: one JSON line an event, who wrote it, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from mesh.identity import Identity
from mesh.logs import configure
from mesh.settings import LogSettings


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """A configured log, and what it wrote."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure(LogSettings(format="json", level="info"), role="planner", instance="one", stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    """The lines as values."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_says_what_when_and_who(out: io.StringIO) -> None:
    structlog.get_logger("x").info("plan_written", task="t1", path=Path("/a"), steps=("a", "b"))
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "plan_written",
        "level": "info",
        "role": "planner",
        "instance": "one",
        "task": "t1",
        "path": "PosixPath('/a')",
        "steps": ["a", "b"],
    }


def test_lines_below_the_level_are_not_written(out: io.StringIO) -> None:
    structlog.get_logger("x").debug("delivery_handled")
    assert lines(out) == []


def test_values_under_secret_names_are_hidden(out: io.StringIO) -> None:
    structlog.get_logger("x").info(
        "called", api_key="k1", headers={"Authorization": "Bearer k2"}, access_token="k3", deep=[{"db_password": "k4"}]
    )
    text = out.getvalue()
    assert not any(secret in text for secret in ("k1", "k2", "k3", "k4"))
    assert text.count("[redacted]") == 4


def test_counts_of_tokens_are_no_secrets(out: io.StringIO) -> None:
    structlog.get_logger("x").info("model_called", tokens_in=10, tokens_out=20)
    assert (lines(out)[0]["tokens_in"], lines(out)[0]["tokens_out"]) == (10, 20)


def test_a_seed_is_hidden_wherever_it_stands(out: io.StringIO, tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "a.nk", "alice")
    seed = identity.path.read_text().strip()
    log = structlog.get_logger("x")
    log.info(
        "seed_read",
        said=[f"read_{seed}"],
        note=f"it is '{seed}'",
        raw=seed.encode(),
        held=[{"x": f"a_{seed}"}],
        thing=identity,
    )
    try:
        raise ValueError(f"bad key {seed}")
    except ValueError:
        log.exception("failed")
    logging.getLogger("nats").warning("connected with %s", seed)
    assert seed not in out.getvalue()
    assert len(lines(out)) == 3
    assert identity.public_key in out.getvalue()


def test_warnings_of_libraries_are_in_the_same_log(out: io.StringIO) -> None:
    logging.getLogger("nats").warning("slow consumer")
    logging.getLogger("nats").info("chatter")
    (line,) = lines(out)
    assert (line["event"], line["library"], line["message"]) == ("library_log", "nats", "slow consumer")


def test_a_terminal_gets_the_console_form() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    try:
        configure(LogSettings(), role="planner", instance="one", stream=terminal)
        structlog.get_logger("x").info("plan_written")
        assert "plan_written" in terminal.getvalue() and not terminal.getvalue().startswith("{")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.getLogger().handlers.clear()
