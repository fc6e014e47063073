"""docs/runc-parity.md has a row for every flag there is, here and in an installed runc."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from libpycontainer.cli import main
from libpycontainer.cli.options import Flag

PAGE = Path(__file__).parents[2] / "docs" / "runc-parity.md"
ANSWERS = {"same", "differs", "refused", "ours"}
RUNC = shutil.which("runc")
ROW = re.compile(r"^\| (`.*?`(?:, `.*?`)*) \| (\w+) \| ?(.*?) ?\|$")


def sections() -> dict[str, list[str]]:
    """The lines of the page below each of its headings."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            name = line.removeprefix("## ").lower()
        found.setdefault(name, []).append(line)
    return found


def rows(verb: str) -> dict[str, tuple[str, str]]:
    """Each spelling of each flag: the answer, and the words about it."""
    found = {}
    for line in sections()[verb]:
        if not line.startswith("| `"):
            continue
        row = ROW.match(line)
        assert row is not None, line
        for spelling in row[1].split(", "):
            assert spelling not in found, f"{verb} has two rows for {spelling}"
            found[spelling.strip("`")] = (row[2], row[3])
    return found


def spellings(flags: tuple[Flag, ...]) -> set[str]:
    names = {f"--{flag.name}" for flag in flags}
    return names | {f"-{flag.short}" for flag in flags if flag.short}


def table(verb: str) -> tuple[Flag, ...]:
    return main._GLOBALS if verb == "global" else tuple(main._command(verb).flags)


EVERYTHING = ("global", *main.VERBS)


def test_the_page_has_a_section_for_every_verb_and_no_other() -> None:
    assert sections().keys() == {"", *EVERYTHING}


@pytest.mark.parametrize("verb", EVERYTHING)
def test_the_page_has_a_row_for_every_flag_and_no_other(verb: str) -> None:
    assert rows(verb).keys() == spellings(table(verb))


@pytest.mark.parametrize("verb", EVERYTHING)
def test_every_row_says_what_is_the_case(verb: str) -> None:
    text = "\n".join(sections()[verb])
    for spelling, (answer, words) in rows(verb).items():
        assert answer in ANSWERS, spelling
        assert words or answer in ("same", "refused"), f"{spelling} differs: how?"
    if not rows(verb):
        assert re.search(r"^Same\b", text, re.MULTILINE)


@pytest.mark.parametrize("verb", EVERYTHING)
def test_the_help_names_every_flag_that_is_not_obsolete(
    verb: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["--help"] if verb == "global" else [verb, "--help"]) == 0
    shown = set(re.findall(r"^   (--[\w-]+)", capfd.readouterr().out, re.MULTILINE))
    assert shown == {f"--{flag.name}" for flag in table(verb) if not flag.hidden}


@pytest.mark.skipif(RUNC is None, reason="runc is not installed")
@pytest.mark.parametrize("verb", EVERYTHING)
def test_every_flag_of_an_installed_runc_is_taken(verb: str) -> None:
    assert RUNC is not None
    argv = [RUNC, "--help"] if verb == "global" else [RUNC, verb, "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    options = text.partition("OPTIONS:\n")[2]
    theirs = set(re.findall(r"(?:^   |, )(--?[a-z][\w-]*)", options, re.MULTILINE))
    assert theirs - spellings(table(verb)) == set()


@pytest.mark.skipif(RUNC is None, reason="runc is not installed")
def test_every_verb_of_an_installed_runc_is_there() -> None:
    assert RUNC is not None
    text = subprocess.run([RUNC, "--help"], capture_output=True, text=True, check=True).stdout
    listing = text.partition("COMMANDS:\n")[2].partition("\n\n")[0]
    theirs = set(re.findall(r"^   ([a-z]+)  ", listing, re.MULTILINE))
    assert len(theirs) > 10
    assert theirs - set(main.VERBS) == set()
