"""What goes to standard output, and the log's lines, as runc's clients read them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from libpycontainer.cli.command import CommandError
from libpycontainer.cli.list import table
from libpycontainer.cli.log import Log
from libpycontainer.cli.output import dump, put, quote

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -5,
        "",
        'q"\\/\n\t\x00\x1f',
        "é 漢 \U0001f600",
        [],
        {},
        [1, [2], {"a": None}],
        {"a": {"b": []}, "c": {}},
    ],
)
def test_json_means_what_was_put_in(value: object) -> None:
    assert json.loads(dump(value)) == value  # type: ignore[arg-type]
    assert json.loads(dump(value, indent="  ")) == value  # type: ignore[arg-type]


def test_json_with_an_indent_has_gos_layout() -> None:
    text = dump({"id": "a", "pid": 0, "list": [1, 2], "none": []}, indent="  ")

    assert text == (
        '{\n  "id": "a",\n  "pid": 0,\n  "list": [\n    1,\n    2\n  ],\n  "none": []\n}'
    )
    assert dump([{"id": "a"}, {"id": "b"}]) == '[{"id":"a"},{"id":"b"}]'


def test_json_may_stand_inside_html_as_gos_does() -> None:
    assert quote("<&>") == '"\\u003c\\u0026\\u003e"'
    assert quote("<&>", html=False) == '"<&>"'


def test_a_name_that_is_not_text_still_makes_valid_json() -> None:
    assert json.loads(quote(os.fsdecode(b"a\xff"))) == "a\ufffd"


def test_a_table_has_runcs_columns() -> None:
    rows = [("ID", "PID", "OWNER"), ("a-name-of-eighteen", "7", "root")]

    assert table(rows) == (
        "ID                   PID         OWNER\na-name-of-eighteen   7           root\n"
    )


def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "wb") as full:
        monkeypatch.setattr("libpycontainer.cli.output._STDOUT", full.fileno())
        with pytest.raises(OSError, match="write /dev/stdout: No space left on device"):
            put("x")


def test_a_reader_that_went_away_ends_the_command_like_sigpipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr("libpycontainer.cli.output._STDOUT", write)
    with pytest.raises(SystemExit) as stopped:
        put("x")
    os.close(write)

    assert stopped.value.code == 141


class Logged:
    """A log that writes to a file, and standard error caught in another."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "log"
        self.log = Log()

    def configure(self, form: str, *, debug: bool = False) -> Log:
        self.log.configure(path=str(self.path), form=form, debug=debug)
        return self.log

    def lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Logged]:
    made = Logged(tmp_path)
    yield made
    made.log.close()


def test_a_json_log_has_one_object_a_line(
    logged: Logged, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logged.configure("json")
    log.error('one "thing"\nand another')
    log.warning("careful")

    first, second = (json.loads(line) for line in logged.lines())
    assert list(first) == ["level", "msg", "time"]
    assert (first["level"], first["msg"]) == ("error", 'one "thing"\nand another')
    assert (second["level"], second["msg"]) == ("warning", "careful")
    assert RFC3339.fullmatch(first["time"])
    assert capfd.readouterr().err == 'one "thing"\nand another\n'


def test_a_text_log_quotes_what_could_be_misread(logged: Logged) -> None:
    log = logged.configure("text")
    log.error('a "b" c')
    log.error("EOF")

    first, second = logged.lines()
    assert re.fullmatch(r'time="[^"]+" level=error msg="a \\"b\\" c"', first)
    assert re.fullmatch(r'time="[^"]+" level=error msg=EOF', second)


def test_a_log_file_is_appended_to(logged: Logged) -> None:
    logged.path.write_text("before\n", encoding="ascii")
    logged.configure("text").warning("now")

    assert logged.lines()[0] == "before"
    assert len(logged.lines()) == 2


def test_debug_messages_are_for_those_who_ask(logged: Logged) -> None:
    logged.configure("text").debug("hidden")
    assert logged.lines() == []

    logged.configure("text", debug=True).debug("shown")
    assert "level=debug msg=shown" in logged.lines()[0]


def test_an_unknown_format_is_refused(logged: Logged) -> None:
    with pytest.raises(CommandError, match="invalid log-format: xml"):
        logged.configure("xml")


def test_errors_go_to_standard_error_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    Log().error("container does not exist")

    assert re.fullmatch(
        r'time="[^"]+" level=error msg="container does not exist"\n', capfd.readouterr().err
    )


def test_the_hosts_time_zone_is_in_the_time(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", "XXX-5:30")
    time.tzset()
    try:
        logged.configure("json").error("x")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert json.loads(logged.lines()[0])["time"].endswith("+05:30")
