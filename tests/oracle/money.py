"""Money in integers: nano-USD amounts, femto-USD rates, and the two roundings a bill has. No float."""

import re

NANO = 10**9
FEMTO_PER_NANO = 10**6
MARKUP_ONE = 10**6
MAX = 2**63 - 1
DECIMAL = re.compile(r"(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?\Z", re.ASCII)


class MoneyError(ValueError):
    """A number that is none, or does not fit."""


def half_even(n, d):
    """n / d to the nearest integer, ties to the even one; d > 0."""
    low, rest = divmod(n, d)
    twice = 2 * rest
    return low + 1 if twice > d or (twice == d and low % 2 == 1) else low


def fits(value):
    if not -MAX - 1 <= value <= MAX:
        raise MoneyError(f"{value} does not fit")
    return value


def from_femtos(femtos):
    return fits(half_even(femtos, FEMTO_PER_NANO))


def mark_up(raw_nanos, markup_ppm):
    return fits(half_even(raw_nanos * markup_ppm, MARKUP_ONE))


def parse_decimal(text, scale):
    """Decimal text times 10^scale: (integer, was it rounded). Half-even where the text has more decimals."""
    match = DECIMAL.match(text)
    if not match or not (match[2] or match[3]):
        raise MoneyError(f"no decimal: {text!r}")
    sign, whole, part, power = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits = int((whole + part) or "0")
    shift = scale - len(part) + power
    if shift >= 0:
        value, rounded = digits * 10**min(shift, 64), False
    else:
        divisor = 10**min(-shift, 400)
        value, rounded = half_even(digits, divisor), digits % divisor != 0
    return fits(-value if sign else value), rounded


def usd(nanos):
    """The shortest decimal text in USD."""
    text = f"{abs(nanos) // NANO}.{abs(nanos) % NANO:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nanos < 0 else text
