"""What models cost: a dated table, the cost of a call by its tokens, and the most that a call can cost.

The rule: money is whole numbers. Inside a call it is counted in millionths of a micro-dollar and never rounded; a call
is rounded up, once, to micro-dollars.
"""

import re
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from mesh.errors import SettingsError
from mesh.inference import Mode

_MILLION = 1_000_000
_HALF = Decimal("0.5")
# What a provider adds to a request with a tool, in tokens: the published figures stay under 700.
_OVERHEAD_TOKENS = 1024
_SNAPSHOT = re.compile(r"-\d{8}$")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of the file."""


class _Rates(_Section, frozen=True, kw_only=True):
    """Decimal for a million tokens of each kind, as the file has them."""

    tokens_in: Decimal = msgspec.field(name="in")
    tokens_out: Decimal = msgspec.field(name="out")
    cache_write: Decimal | None = None
    cache_read: Decimal | None = None


class _Long(_Rates, frozen=True, kw_only=True):
    """What holds for a request with more input tokens than ``above``."""

    above: Annotated[int, msgspec.Meta(ge=1)]


class _Model(_Rates, frozen=True, kw_only=True):
    """A model of the file; ``batch`` is the factor for what goes in a batch."""

    batch: Decimal = _HALF
    long: _Long | None = None


class _File(_Section, frozen=True, kw_only=True):
    """The file of prices."""

    date: str
    models: dict[str, _Model]
    source: str = ""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Micro-dollars for a million tokens of each kind."""

    tokens_in: int
    tokens_out: int
    tokens_written: int
    tokens_cached: int

    @property
    def dearest_in(self) -> int:
        """The most that a token of a prompt can cost."""
        return max(self.tokens_in, self.tokens_written, self.tokens_cached)


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a model in each mode; ``long`` holds above ``long_above`` tokens of input (0: there is none)."""

    model: str
    date: str
    rates: dict[Mode, Rates]
    long: dict[Mode, Rates] = {}
    long_above: int = 0

    def cost(
        self, mode: Mode, *, tokens_in: int, tokens_out: int, tokens_cached: int = 0, tokens_written: int = 0
    ) -> int:
        """What a call cost, in micro-dollars, rounded up."""
        rates = self._rates(mode, tokens_in + tokens_cached + tokens_written)
        exact = (
            tokens_in * rates.tokens_in
            + tokens_out * rates.tokens_out
            + tokens_cached * rates.tokens_cached
            + tokens_written * rates.tokens_written
        )
        return -(-exact // _MILLION)

    def at_most(self, mode: Mode, prompt_bytes: int, max_tokens: int) -> int:
        """The most that a call can cost, in micro-dollars: no token is shorter than a byte."""
        tokens = prompt_bytes + _OVERHEAD_TOKENS
        tables = [self.rates, self.long] if self.long_above and tokens > self.long_above else [self.rates]
        exact = max(tokens * table[mode].dearest_in + max_tokens * table[mode].tokens_out for table in tables)
        return -(-exact // _MILLION)

    def _rates(self, mode: Mode, tokens: int) -> Rates:
        long = bool(self.long_above) and tokens > self.long_above
        return (self.long if long else self.rates)[mode]


class Prices:
    """The table of one file."""

    def __init__(self, date: str, models: dict[str, Price], origin: str) -> None:
        self.date = date
        self.origin = origin
        self._models = models

    def of(self, model: str) -> Price:
        """The price of a model; a dated snapshot (``-20251001``) costs what the model costs.

        Raises ``SettingsError`` for one that the table does not have.
        """
        found = self._models.get(model) or self._models.get(_SNAPSHOT.sub("", model))
        if found is None:
            raise SettingsError(
                f"no price for the model {model!r} in {self.origin}: set models.prices to a file that has it "
                "(0 for a model on premises)"
            )
        return msgspec.structs.replace(found, model=model)


def load_prices(path: str = "") -> Prices:
    """The prices of a file, or of the table that ships; raises ``SettingsError`` with what is wrong."""
    origin = path or "the table that ships"
    try:
        if path:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        else:
            text = resources.files("mesh").joinpath("prices.yaml").read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"models.prices: cannot read {path}: {error.strerror}") from error
    try:
        found = msgspec.convert(_as_text(yaml.safe_load(text)), _File, strict=False)
        models = {name: _price(name, found.date, model) for name, model in found.models.items()}
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"models.prices: {origin} is no table of prices: {error}") from error
    return Prices(found.date, models, origin)


def _price(name: str, date: str, model: _Model) -> Price:
    long = {mode: _rates(name, model.long, _factor(mode, model)) for mode in Mode} if model.long else {}
    return Price(
        model=name,
        date=date,
        rates={mode: _rates(name, model, _factor(mode, model)) for mode in Mode},
        long=long,
        long_above=model.long.above if model.long else 0,
    )


def _factor(mode: Mode, model: _Model) -> Decimal:
    return model.batch if mode is Mode.BATCH else Decimal(1)


def _rates(name: str, rates: _Rates, factor: Decimal) -> Rates:
    whole = rates.tokens_in

    def exact(dollars: Decimal | None) -> int:
        value = (whole if dollars is None else dollars) * factor * _MILLION
        if not 0 <= value <= _MILLION**2 or value != int(value):
            raise ValueError(
                f"{name}: {dollars} times {factor} must be 0 to a million, with at most six digits behind the point"
            )
        return int(value)

    return Rates(
        tokens_in=exact(rates.tokens_in),
        tokens_out=exact(rates.tokens_out),
        tokens_written=exact(rates.cache_write),
        tokens_cached=exact(rates.cache_read),
    )


def _as_text(value: Any) -> Any:
    """The YAML value with each number as it was written, so that no price becomes a binary fraction."""
    if isinstance(value, dict):
        return {str(key): _as_text(each) for key, each in value.items()}
    return value if value is None else str(value)
