"""The written documentation keeps up with the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import libpycontainer as lc
from libpycontainer import errors
from scripts import errors as error_page

DOCS = Path(__file__).parents[2] / "docs"
ATTACKS = Path(__file__).parents[1] / "security"


def test_every_public_name_is_in_the_api_page() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE))
    data = re.search(r"^\.\. data:: (\w+(?:\n +\w+)*)", page, re.MULTILINE)
    assert data is not None
    named.update(data[1].split())
    # The errors' page lists its module as a whole.
    named.update(vars(errors))
    assert set(lc.__all__) - named - {"__version__"} == set()


def test_the_page_of_errors_is_what_the_code_says() -> None:
    written = (DOCS / "errors.md").read_text(encoding="utf-8")
    assert written == error_page.page(), "run: python -m scripts.errors"


def test_every_error_says_what_to_do_in_its_own_words() -> None:
    hints = [vars(cls)["hint"] for cls in error_page.classes()]
    assert len(set(hints)) == len(hints)
    assert all(len(hint) > 20 and hint.endswith(".") for hint in hints)


def attacks_in_the_tests() -> dict[str, set[str]]:
    """The attacks that tests/security plays: by name, the files that do."""
    found: dict[str, set[str]] = {}
    for path in ATTACKS.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attack"):
                name = ast.literal_eval(node.args[0])
                found.setdefault(name, set()).add(path.name)
    return found


def test_every_attack_is_on_the_security_page_and_counted() -> None:
    page = (DOCS / "security.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| [^|]+ \| `(test_\w+\.py)` \|$", page, re.MULTILINE))
    played = attacks_in_the_tests()
    assert set(rows) == set(played)
    assert all(rows[name] in files for name, files in played.items())
    assert f"All {len(played)} held" in page
