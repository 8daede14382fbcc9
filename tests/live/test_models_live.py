"""The real provider, where a key is set: `make test-live`. It costs a few cents."""

import os
from pathlib import Path

import msgspec
import pytest

from agents.planner.cases import load_cases
from agents.planner.evaluating import Asking, evaluate
from mesh.messages import Question, messages_api
from mesh.prices import load_prices
from mesh.settings import load
from packs.retail.pack import pack

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

CASES = Path(__file__).parents[2] / "packs" / "retail" / "prompts" / "cases"


@pytest.fixture(scope="module", autouse=True)
def key() -> None:
    """A suite that is asked for and cannot run fails; it never passes in silence."""
    models = load().models
    if not (models.key_file or os.environ.get("ANTHROPIC_API_KEY") or models.base_url):
        pytest.fail("no model to ask: set ANTHROPIC_API_KEY, or models.base_url in a file that WORKMESH_CONFIG names")


async def test_each_tier_answers_by_the_tool_and_says_what_it_used() -> None:
    models = load().models
    schema = msgspec.Raw(
        b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
    )
    async with messages_api(models) as messages:
        for model in (models.small, models.large, models.judge):
            question = Question(model, "Name the capital of the country.", '{"country":"France"}', schema, 256)
            reply = await messages.ask(question, timeout_s=60)
            assert reply.problem == ""
            assert msgspec.json.decode(reply.output) == {"city": "Paris"}
            assert reply.tokens_in + reply.tokens_written + reply.tokens_cached > 0
            assert reply.tokens_out > 0


async def test_the_cases_of_the_retail_prompts_pass() -> None:
    settings = load().models
    async with messages_api(settings) as messages:
        asking = Asking(
            messages, settings, load_prices(settings.prices), lambda prompt: str(getattr(settings, prompt.chain[0]))
        )
        report = await evaluate(pack, load_cases(CASES), asking, 0.8)
    assert report.ok, [result for result in report.results if result.fault]
    assert report.cost_micro_usd < 1_000_000
