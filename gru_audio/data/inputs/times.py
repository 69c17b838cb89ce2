"""Times of stretches, as listings write them."""

import math
from typing import Any

from gru_audio.errors import DatasetError

_MOST_S = 1e6  # 11 days


def seconds(value: Any, where: str) -> float:
    """A time in seconds.

    Args:
        value: a number, or its text.
        where: the file and line, for the message.

    Raises:
        DatasetError: it is none from 0 to a million.
    """
    try:
        time_s = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        time_s = math.nan
    if not 0 <= time_s <= _MOST_S:
        raise DatasetError(f"{where}: '{str(value)[:40]}' is no time in seconds; mend it")
    return time_s
