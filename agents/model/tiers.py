"""The models of the tiers: name, price, breaker, and how many calls each is given at once."""

import asyncio
from dataclasses import dataclass, field

from mesh.breaker import Breaker
from mesh.inference import Prompt, Tier
from mesh.messages import Question
from mesh.prices import Price, Prices
from mesh.settings import ModelSettings

AT_ONCE = 64  # calls of one model by one process: a slow model holds no more
_PAUSE_MAX_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """One model."""

    model: str
    price: Price
    breaker: Breaker
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


class Tiers:
    """Which model each tier means. Raises ``SettingsError`` for one without a price."""

    def __init__(self, settings: ModelSettings, prices: Prices) -> None:
        self._prices = prices
        self.names = {Tier.SMALL: settings.small, Tier.LARGE: settings.large, Tier.JUDGE: settings.judge}
        self._targets = {
            model: Target(model, prices.of(model), Breaker(f"model {model}", pause_max_s=_PAUSE_MAX_S))
            for model in self.names.values()
        }

    def chain(self, prompt: Prompt) -> list[Target]:
        """The models to ask, in order, each once."""
        return [self._targets[model] for model in dict.fromkeys(self.names[tier] for tier in prompt.chain)]

    def price(self, model: str) -> Price:
        """The price of any model; raises ``SettingsError`` for one without."""
        return self._prices.of(model)


def question(prompt: Prompt, model: str) -> Question:
    """The prompt as it is sent to a model."""
    return Question(model, prompt.system, prompt.user, prompt.schema, prompt.max_tokens)
