"""The prompt cache is one of prefixes, as the provider's is: costs follow from what was sent before."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesh.scripted.asked import read
from mesh.scripted.cache import InputTokens, PromptCache
from mesh.scripted.conversations import Turn
from tests.mesh.scripted.asking import RETURN, SMALL, ask, asking, says


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def prompt(system: str, user: str, ttl: str = "5m", model: str = SMALL) -> Any:
    marked = {"type": "text", "text": system, "cache_control": {"type": "ephemeral", "ttl": ttl}}
    body = {"model": model, "max_tokens": 5, "system": [marked], "messages": [{"role": "user", "content": user}]}
    return read(body)


def test_the_first_prompt_writes_its_prefix_and_the_next_reads_it() -> None:
    cache = PromptCache(Clock(), min_tokens=10)
    first, second = prompt("s" * 400, "u" * 40), prompt("s" * 400, "v" * 80)
    assert cache.look(first) == InputTokens(whole=10, written=100)
    cache.put(first)
    assert cache.look(second) == InputTokens(whole=20, read=100)


def test_one_changed_byte_or_another_model_misses() -> None:
    cache = PromptCache(Clock(), min_tokens=10)
    cache.put(prompt("s" * 400, "u"))
    assert cache.look(prompt("s" * 399 + "t", "u")).read == 0
    assert cache.look(prompt("s" * 400, "u", model="claude-opus-4-5")).read == 0


def test_an_entry_lives_five_minutes_from_its_last_use_or_an_hour() -> None:
    clock = Clock()
    cache = PromptCache(clock, min_tokens=10)
    short, long = prompt("s" * 400, "u"), prompt("l" * 400, "u", "1h")
    assert cache.look(long) == InputTokens(whole=1, written=100, hour=100)
    cache.put(short)
    cache.put(long)
    clock.at += 299
    assert cache.look(short).read == 100
    cache.put(short)
    clock.at += 299
    assert cache.look(short).read == 100
    clock.at += 1
    assert cache.look(short).read == 0
    assert cache.look(long).read == 100


def test_a_prefix_that_is_too_short_is_billed_whole() -> None:
    cache = PromptCache(Clock(), min_tokens=1024)
    asked = prompt("s" * 400, "u" * 4)
    cache.put(asked)
    assert cache.look(asked) == InputTokens(whole=101)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.floats(0, 400)), max_size=12))
def test_every_token_is_billed_once_and_nothing_is_read_that_was_not_written(
    asked: list[tuple[str, str, float]],
) -> None:
    clock = Clock()
    cache = PromptCache(clock, min_tokens=10)
    written: dict[str, float] = {}
    for system, user, wait_s in asked:
        clock.at += wait_s
        sent = prompt(system * 400, user * 40)
        taken = cache.look(sent)
        assert taken.whole + taken.read + taken.written == sent.tokens
        is_there = system in written and clock.at - written[system] < 300
        assert (taken.read, taken.written) == ((100, 0) if is_there else (0, 100))
        cache.put(sent)
        written[system] = clock.at


async def test_the_client_sees_what_was_written_and_read() -> None:
    async with asking(says(Turn(answer=RETURN)), cache_min_tokens=10) as (client, server):
        first, second = await ask(client, "one"), await ask(client, "two")
    assert first.usage.cache_creation_input_tokens == second.usage.cache_read_input_tokens
    assert (first.usage.cache_creation_input_tokens or 0) > 10
    assert second.usage.cache_creation_input_tokens == 0
    assert [call.tokens_cached for call in server.calls] == [0, second.usage.cache_read_input_tokens]
