"""Amounts of money, which are whole minor units everywhere, as people write them."""


def money(amount: int, currency: str) -> str:
    """Minor units as people write them: 35449 USD is 354.49 USD."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100:,}.{abs(amount) % 100:02d} {currency}"
