"""The Messages API as the scripted server speaks it: what is sent, what comes back, and who has to pay for an error."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.clock import now
from mesh.errors import SettingsError
from mesh.messages import (
    CallError,
    Messages,
    NotBilledError,
    Question,
    RejectedError,
    Reply,
    UnknownFateError,
    custom_ids,
    messages_api,
    read_reply,
)
from mesh.ports import free_port
from mesh.scripted.conversations import Conversation, Turn, When
from mesh.scripted.provider import Terms
from mesh.scripted.server import ScriptedModel, scripted_model
from mesh.settings import ModelSettings
from tests.mesh.samples import json

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
ANSWER = {"n": 5}
QUESTION = Question("claude-haiku-5-5", "You count.", "How many?", json(SCHEMA), 100)
KEY = {"ANTHROPIC_API_KEY": "sk-test"}


@asynccontextmanager
async def asking(*turns: Turn, plain: bool = False, **terms: Any) -> AsyncIterator[tuple[Messages, ScriptedModel]]:
    """The adapter, and a server that says this."""
    said = Conversation(conversation="in a test", when=When(), says=turns or (Turn(answer=ANSWER),))
    async with scripted_model([said], terms=Terms(**terms)) as server:
        async with messages_api(ModelSettings(base_url=server.url, plain=plain), KEY) as messages:
            yield messages, server


async def ask(*turns: Turn, timeout_s: float = 5.0) -> Reply:
    """What the adapter makes of what the server says."""
    async with asking(*turns) as (messages, _):
        return await messages.ask(QUESTION, timeout_s=timeout_s)


async def failure(turn: Turn, *, timeout_s: float = 5.0) -> CallError:
    """The error that the adapter makes of what the server does."""
    async with asking(turn) as (messages, _):
        with pytest.raises(CallError) as raised:
            await messages.ask(QUESTION, timeout_s=timeout_s)
    return raised.value


async def test_an_answer_comes_with_the_tokens_that_are_billed() -> None:
    async with asking(cache_min_tokens=1) as (messages, server):
        first = await messages.ask(QUESTION, timeout_s=5)
        second = await messages.ask(QUESTION, timeout_s=5)
        billed = server.billed
    assert msgspec.json.decode(first.output) == ANSWER
    for reply, call in zip((first, second), billed, strict=True):
        assert reply.tokens_in == call.tokens_in
        assert reply.tokens_out == call.tokens_out
        assert (reply.tokens_cached, reply.tokens_written) == (call.tokens_cached, call.tokens_written)
        assert reply.request_id == call.request_id
    assert second.tokens_cached == first.tokens_written > 0


async def test_no_prompt_has_more_tokens_than_bytes() -> None:
    async with asking() as (messages, server):
        await messages.ask(QUESTION, timeout_s=5)
        assert server.billed[0].tokens_in < QUESTION.size


@pytest.mark.parametrize(
    ("turn", "problem"),
    [
        (Turn(text="Five, gladly."), "the model answered with text"),
        (Turn(answer=ANSWER, truncated=True), "the answer was cut off (max_tokens)"),
        (Turn(answer=[5]), "the answer is no object"),
        (Turn(refusal="I may not"), "the model declined"),
    ],
    ids=["text", "truncated", "list", "refusal"],
)
async def test_what_is_no_answer_says_why_and_is_billed(turn: Turn, problem: str) -> None:
    reply = await ask(turn)
    assert (reply.problem, bytes(reply.output)) == (problem, b"null")
    assert reply.tokens_out > 0
    assert reply.declined == bool(turn.refusal)
    assert turn.refusal in reply.text
    assert turn.text in reply.text


@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_an_error_of_the_server_is_not_billed(status: int) -> None:
    error = await failure(Turn(status=status, retry_after=7.0))
    assert isinstance(error, NotBilledError)
    assert error.retry_after_s == 7.0
    assert error.limited == (status == 429)


@pytest.mark.parametrize(("status", "setting"), [(400, "request"), (401, "key_file"), (403, "key"), (404, "base_url")])
async def test_what_will_never_be_taken_names_where_to_look(status: int, setting: str) -> None:
    error = await failure(Turn(status=status))
    assert isinstance(error, RejectedError)
    assert re.search(rf"{status}.*look at .*{setting}", str(error))


@pytest.mark.parametrize(
    "turn",
    [
        Turn(answer=ANSWER, delay_s=3),
        Turn(answer=ANSWER, disconnect="after"),
        Turn(answer=ANSWER, disconnect="midway"),
        Turn(malformed='{"content": ['),
        Turn(status=504),
    ],
    ids=["slow", "dropped", "cut", "malformed", "gateway"],
)
async def test_what_may_have_been_answered_is_of_unknown_fate(turn: Turn) -> None:
    assert isinstance(await failure(turn, timeout_s=0.5), UnknownFateError)


async def test_a_server_that_is_not_there_is_not_billed() -> None:
    async with messages_api(ModelSettings(base_url=f"http://127.0.0.1:{free_port()}"), KEY) as messages:
        with pytest.raises(NotBilledError, match="no connection"):
            await messages.ask(QUESTION, timeout_s=5)


async def test_a_model_that_always_thinks_is_not_forced_and_may_think() -> None:
    thinker = replace(QUESTION, model="claude-opus-5-5")
    async with asking() as (messages, _):
        forced, free = messages.request(QUESTION), messages.request(thinker)
        assert (await messages.ask(thinker, timeout_s=5)).problem == ""
    assert (forced["tool_choice"]["type"], forced["thinking"]["type"]) == ("tool", "disabled")
    assert (free["tool_choice"]["type"], "thinking" in free) == ("auto", False)
    assert free["max_tokens"] == thinker.most_out > QUESTION.max_tokens == forced["max_tokens"]


async def test_a_plain_server_is_sent_nothing_it_may_not_know_and_may_answer_in_words() -> None:
    async with asking(Turn(text='```json\n{"n": 5}\n```'), plain=True) as (messages, _):
        sent = msgspec.json.encode(messages.request(QUESTION))
        reply = await messages.ask(QUESTION, timeout_s=5)
    assert b"strict" not in sent
    assert b"cache_control" not in sent
    assert b"thinking" not in sent
    assert msgspec.json.decode(reply.output) == ANSWER


def test_words_are_no_answer_of_a_server_that_is_not_plain() -> None:
    body = {"content": [{"type": "text", "text": '{"n": 5}'}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    assert read_reply(msgspec.json.encode(body)).problem
    assert not read_reply(msgspec.json.encode(body), plain=True).problem


async def test_a_batch_is_found_followed_and_read() -> None:
    ids = custom_ids("n0nce", 3)
    before = now() - timedelta(seconds=5)
    async with asking() as (messages, server):
        sent = await messages.submit(dict.fromkeys(ids, QUESTION), timeout_s=5)
        assert (sent.size, sent.ended) == (3, False)
        state = sent
        while not state.ended:
            state = await messages.batch(sent.id, timeout_s=5)
        found = {each.custom_id: each async for each in messages.results(sent.id, timeout_s=5)}
        assert [each.id for each in await messages.batches_since(before, timeout_s=5)] == [sent.id]
        assert await messages.batches_since(now() + timedelta(minutes=1), timeout_s=5) == []
        with pytest.raises(RejectedError) as raised:
            await messages.batch("msgbatch_none", timeout_s=5)
        assert raised.value.status == 404
        assert {call.custom_id for call in server.billed} == set(ids) == set(found)
    assert all(each.reply is not None and each.reply.tokens_out for each in found.values())


async def test_a_key_is_taken_from_its_owners_file_and_from_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-file\n", encoding="utf-8")
    path.chmod(0o600)
    said = Conversation(conversation="in a test", when=When(), says=(Turn(answer=ANSWER),))
    async with scripted_model([said], terms=Terms(api_key="sk-file")) as server:
        async with messages_api(ModelSettings(base_url=server.url, key_file=str(path)), {}) as messages:
            assert not (await messages.ask(QUESTION, timeout_s=5)).problem
        async with messages_api(ModelSettings(base_url=server.url), KEY) as messages:
            with pytest.raises(RejectedError, match="401"):
                await messages.ask(QUESTION, timeout_s=5)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match=r"models\.key_file: others can read"):
        async with messages_api(ModelSettings(key_file=str(path)), {}):
            pass
    with pytest.raises(SettingsError, match=r"there is no key: set ANTHROPIC_API_KEY or models\.key_file"):
        async with messages_api(ModelSettings(), {}):
            pass
