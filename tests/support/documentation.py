"""Programs in the documentation, as they stand."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def program(page: str, language: str) -> str:
    """The program of a page of docs/ that is marked with `<!-- run -->`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"<!-- run -->\n```{language}\n(.*?)```", text, re.DOTALL)
    assert len(found) == 1, page
    return str(found[0])
