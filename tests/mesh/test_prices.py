"""What a call costs, and that the bound made before it is one."""

from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import SettingsError
from mesh.inference import Mode
from mesh.prices import Prices, load_prices
from mesh.settings import ModelSettings

TOKENS = st.integers(0, 2_000_000)
SHIPPED = load_prices()
MODELS = ("claude-haiku-4-5", "claude-haiku-5-5", "claude-opus-4-5", "claude-fable-5-2")


def test_the_default_models_have_prices() -> None:
    settings = ModelSettings()
    for model in (settings.small, settings.large, settings.judge):
        assert SHIPPED.of(model).rates[Mode.INTERACTIVE].tokens_out > 0


def test_a_call_costs_what_the_provider_says() -> None:
    # $1 and $5 for a million tokens: 1,000 in and 100 out are $0.0015; from the cache 1,000 are a tenth.
    haiku = SHIPPED.of("claude-haiku-4-5")
    assert haiku.cost(Mode.INTERACTIVE, tokens_in=1000, tokens_out=100) == 1500
    assert haiku.cost(Mode.INTERACTIVE, tokens_in=0, tokens_out=0, tokens_cached=1000) == 100
    assert haiku.cost(Mode.INTERACTIVE, tokens_in=0, tokens_out=0, tokens_written=1000) == 1250
    assert haiku.cost(Mode.BATCH, tokens_in=1000, tokens_out=100) == 750
    assert haiku.cost(Mode.INTERACTIVE, tokens_in=0, tokens_out=0, tokens_cached=1) == 1  # a tenth, rounded up


def test_a_long_prompt_has_prices_of_its_own() -> None:
    haiku = SHIPPED.of("claude-haiku-5-5")
    assert haiku.cost(Mode.INTERACTIVE, tokens_in=60_000, tokens_cached=40_000, tokens_out=0) == 6_400
    assert haiku.cost(Mode.INTERACTIVE, tokens_in=60_001, tokens_cached=40_000, tokens_out=0) == 32_001


@given(st.sampled_from(MODELS), st.sampled_from(Mode), TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_cost_is_exact_and_rounded_up_once(
    model: str, mode: Mode, tokens_in: int, out: int, cached: int, written: int
) -> None:
    price = SHIPPED.of(model)
    long = price.long_above and tokens_in + cached + written > price.long_above
    rates = (price.long if long else price.rates)[mode]
    exact = (
        Decimal(tokens_in) * rates.tokens_in
        + Decimal(out) * rates.tokens_out
        + Decimal(cached) * rates.tokens_cached
        + Decimal(written) * rates.tokens_written
    ) / 1_000_000
    cost = price.cost(mode, tokens_in=tokens_in, tokens_out=out, tokens_cached=cached, tokens_written=written)
    assert cost == int(exact.to_integral_value(ROUND_CEILING))


@given(st.sampled_from(MODELS), st.sampled_from(Mode), st.data(), st.integers(0, 300_000), st.integers(1, 64_000))
def test_no_call_costs_more_than_its_bound(
    model: str, mode: Mode, data: st.DataObject, size: int, max_tokens: int
) -> None:
    price = SHIPPED.of(model)
    written = data.draw(st.integers(0, size))
    cached = data.draw(st.integers(0, size - written))
    tokens_in = data.draw(st.integers(0, size - written - cached))
    out = data.draw(st.integers(0, max_tokens))
    cost = price.cost(mode, tokens_in=tokens_in, tokens_out=out, tokens_cached=cached, tokens_written=written)
    assert cost <= price.at_most(mode, size, max_tokens)


def table(folder: Path, text: str) -> Prices:
    """The prices of a file with this text."""
    path = folder / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    return load_prices(str(path))


def test_a_model_on_premises_can_be_free(tmp_path: Path) -> None:
    own = table(tmp_path, "date: 2026-11-01\nmodels:\n  qwen3: {in: 0, out: 0}\n").of("qwen3")
    assert own.cost(Mode.INTERACTIVE, tokens_in=9, tokens_out=9) == own.at_most(Mode.INTERACTIVE, 99, 99) == 0


def test_a_dated_snapshot_costs_what_its_model_costs() -> None:
    snapshot = SHIPPED.of("claude-haiku-4-5-20251001")
    assert snapshot.rates == SHIPPED.of("claude-haiku-4-5").rates
    assert snapshot.model == "claude-haiku-4-5-20251001"


def test_a_model_without_a_price_is_refused_by_the_name_of_the_setting() -> None:
    with pytest.raises(SettingsError, match=r"'gpt-x'.*set models\.prices"):
        SHIPPED.of("gpt-x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date: 2026-11-01\nmodels: {m: {in: -1, out: 1}}", "0 to a million"),
        ("date: 2026-11-01\nmodels: {m: {in: 0.0000001, out: 1}}", "six digits"),
        ("date: 2026-11-01\nmodels: {m: {inn: 1, out: 1}}", "inn"),
        ("models: {m: {in: 1, out: 1}}", "date"),
        ("[", "no table of prices"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        table(tmp_path, text)
    with pytest.raises(SettingsError, match=r"models\.prices: cannot read"):
        load_prices(str(tmp_path / "none.yaml"))
