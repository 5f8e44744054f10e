"""Money: integers of micro-USD inside, decimal strings outside, atomic token units at the chain.

1 USD = 1,000,000 micros. A float never holds money. Tokens have their own number of decimals; an
amount converts exactly or is rounded in the direction the function's name says.
"""

import re

MICROS_PER_USD = 1_000_000
# Far above any price, far below 2**63: sums of many amounts still fit SQLite's INTEGER.
MICROS_MAX = 10**15

_USD = re.compile(r"(0|[1-9][0-9]{0,8})(?:\.([0-9]{1,6}))?", re.ASCII)


USD_PATTERN = "^[0-9]{1,9}([.][0-9]{1,6})?$"
"""What `parse_usd` takes, for the schemas of documents; a leading zero as well."""


class MoneyError(ValueError):
    """The text is no amount of money we accept."""


def parse_usd(text: object) -> int:
    """ "0.330" or an int of whole USD -> micros. No sign, no exponent, at most six decimals, below 1e9 USD."""
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise MoneyError('an amount of USD is a decimal string such as "0.330"')
    match = _USD.fullmatch(str(text))
    if match is None:
        raise MoneyError('an amount of USD has digits, at most six decimals, no sign and no exponent, such as "0.330"')
    whole, fraction = match.groups()
    return int(whole) * MICROS_PER_USD + int((fraction or "").ljust(6, "0"))


def parse_json_usd(value: object) -> int:
    """The same of a JSON value: of a number with a fraction its shortest digits count."""
    return parse_usd(str(value) if isinstance(value, float) else value)


def format_usd(micros: int) -> str:
    """Micros -> decimal string with at least three decimals and no more than needed: 330000 -> "0.330"."""
    sign = "-" if micros < 0 else ""
    whole, fraction = divmod(abs(micros), MICROS_PER_USD)
    text = f"{fraction:06d}"
    return f"{sign}{whole}.{text[:3]}{text[3:].rstrip('0')}"


def micros_to_atomic_up(micros: int, decimals: int) -> tuple[int, bool]:
    """Micros -> (atomic units of a token, whether that is exact). Rounded up: the offer never asks for less."""
    if decimals >= 6:
        return micros * 10 ** (decimals - 6), True
    atomic, rest = divmod(micros, 10 ** (6 - decimals))
    return atomic + (1 if rest else 0), rest == 0


def atomic_to_micros_down(atomic: int, decimals: int) -> tuple[int, bool]:
    """Atomic units -> (micros, whether that is exact). Rounded down: never credits more than came."""
    if decimals <= 6:
        return atomic * 10 ** (6 - decimals), True
    micros, rest = divmod(atomic, 10 ** (decimals - 6))
    return micros, rest == 0
