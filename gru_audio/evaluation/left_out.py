"""What was left out of single clips, as notes that stay few however many clips there are."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SILENT = "silent, so that nothing is compared with it"
"""Why of a clip that is silent nearly all is left out."""

_NUMBER = re.compile(r"\d+(\.\d+)?")


class LeftOut(NamedTuple):
    """A measure that could not be taken of what a system made of a clip."""

    clip: str
    system: str
    reason: str


def told(left_out: Iterable[LeftOut], systems: Sequence[str]) -> tuple[str, ...]:
    """A line for each reason: the first clip, its systems where not all are meant, and how many more clips it is so of.

    Reasons that differ in their numbers alone, such as a clip's length, are one.

    Args:
        left_out: by clip.
        systems: all that were measured.
    """
    firsts, clips, of_first = dict[str, LeftOut](), dict[str, set[str]](), dict[str, list[str]]()
    for one in left_out:
        kind = _NUMBER.sub("0", one.reason)
        first = firsts.setdefault(kind, one)
        clips.setdefault(kind, set()).add(one.clip)
        if one.clip == first.clip:
            of_first.setdefault(kind, []).append(one.system)
    lines = []
    for kind, first in firsts.items():
        some = list(dict.fromkeys(of_first[kind]))
        # The reference is compared with nothing, so that of most measures it lacks none.
        of = "" if first.reason == SILENT or len(some) >= len(systems) - 1 else f", {', '.join(some)}"
        more = len(clips[kind]) - 1
        lines.append(
            f"{first.clip}{of}: {first.reason}"
            + (f"; so of {more} more clip{'s' * (more > 1)}" if more else "")
        )
    return tuple(lines)
