"""The written documentation keeps up with the code."""

from __future__ import annotations

import re
from pathlib import Path

import libpycontainer as lc
from libpycontainer import errors

DOCS = Path(__file__).parents[2] / "docs"


def test_every_public_name_is_in_the_api_page() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE))
    data = re.search(r"^\.\. data:: (\w+(?:\n +\w+)*)", page, re.MULTILINE)
    assert data is not None
    named.update(data[1].split())
    # The errors' page lists its module as a whole.
    named.update(vars(errors))
    assert set(lc.__all__) - named - {"__version__"} == set()
