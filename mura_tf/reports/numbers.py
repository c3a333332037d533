"""Numbers and intervals as text: the same everywhere, a dash for NaN, no minus zero."""

import math

NOTHING = "\u2013"


def number_text(value: float, form: str = ".3f", nothing: str = NOTHING) -> str:
    """A number in that format; `nothing` where it is NaN.

    >>> number_text(-0.0004), number_text(-0.0004, "+.3f"), number_text(-0.0006)
    ('0.000', '+0.000', '-0.001')
    """
    if math.isnan(value):
        return nothing
    text = format(value, form)
    return text if text.strip("-+0.,") else format(0.0, form)


def interval_text(low: float, high: float, form: str = ".3f") -> str:
    """An interval in a column of its own; `NOTHING` where an end is NaN.

    >>> interval_text(0.55, 0.752)
    '0.550 to 0.752'
    """
    if math.isnan(low) or math.isnan(high):
        return NOTHING
    return f"{number_text(low, form)} to {number_text(high, form)}"


def with_interval(value: float, low: float, high: float, form: str = ".3f") -> str:
    """A number with its interval behind it, as far as there are any.

    >>> with_interval(0.652, 0.55, 0.752), with_interval(0.652, math.nan, math.nan)
    ('0.652 [0.550, 0.752]', '0.652')
    """
    text = number_text(value, form)
    if math.isnan(low) or math.isnan(high):
        return text
    return f"{text} [{number_text(low, form)}, {number_text(high, form)}]"
