"""The command line is cut as runc's parser (urfave/cli over Go's flag package) cuts it."""

from __future__ import annotations

import pytest

from libpycontainer.cli.options import Flag, Options, UsageError, parse

FLAGS = (
    Flag("bundle", "", short="b"),
    Flag("format", "", short="f", default="table"),
    Flag("detach", "", short="d", kind="bool"),
    Flag("preserve-fds", "", kind="int"),
    Flag("env", "", short="e", kind="strings"),
    Flag("additional-gids", "", short="g", kind="ints"),
    Flag("interval", "", kind="duration", default=5),
)


def cut(line: str, *, interspersed: bool = True) -> tuple[Options, list[str]]:
    return parse(FLAGS, line.split(), interspersed=interspersed)


def problem(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        cut(line)
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["--bundle x id", "--bundle=x id", "-b x id", "-b=x id", "-bundle x id", "id --bundle x"],
)
def test_a_value_may_be_spelled_in_every_way_that_go_knows(line: str) -> None:
    options, arguments = cut(line)

    assert options.text("bundle") == "x"
    assert options.given("bundle")
    assert arguments == ["id"]


def test_what_is_not_given_has_its_default() -> None:
    options, arguments = cut("")

    assert options.text("bundle") == ""
    assert options.text("format") == "table"
    assert options.enabled("detach") is False
    assert options.number("preserve-fds") == 0
    assert options.texts("env") == []
    assert options.numbers("additional-gids") == []
    assert options.seconds("interval") == 5.0
    assert not options.given("format")
    assert arguments == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--detach", True),
        ("-d", True),
        ("--detach=true", True),
        ("-d=1", True),
        ("--detach=T", True),
        ("--detach=false", False),
        ("-d=0", False),
    ],
)
def test_a_boolean_takes_a_value_after_the_equals_sign_only(word: str, expected: bool) -> None:
    options, arguments = cut(f"{word} id")

    assert options.enabled("detach") is expected
    assert arguments == ["id"]


def test_a_flag_behind_the_arguments_does_not_swallow_them() -> None:
    options, arguments = cut("id --detach 15")

    assert options.enabled("detach")
    assert arguments == ["id", "15"]


def test_repeated_values_stay_in_order_and_keep_their_commas() -> None:
    options, _ = cut("--env A=1,2 -e B=2 --env=C -g 5 --additional-gids=6")

    assert options.texts("env") == ["A=1,2", "B=2", "C"]
    assert options.numbers("additional-gids") == [5, 6]


def test_the_last_of_two_values_counts() -> None:
    assert cut("-b x -b y")[0].text("bundle") == "y"


def test_a_value_may_look_like_a_flag() -> None:
    assert cut("--bundle -d")[0].text("bundle") == "-d"
    assert cut("-g -1")[0].numbers("additional-gids") == [-1]


def test_two_dashes_end_the_flags() -> None:
    options, arguments = cut("-- --detach id")

    assert not options.enabled("detach")
    assert arguments == ["--detach", "id"]
    assert cut("id -- -9")[1] == ["id", "-9"]


def test_one_dash_is_an_argument() -> None:
    assert cut("id -")[1] == ["id", "-"]


def test_an_unknown_flag_behind_the_arguments_is_an_argument() -> None:
    assert cut("id -9")[1] == ["id", "-9"]


def test_another_programs_flags_are_left_alone() -> None:
    options, arguments = cut("-e A=1 id ls --env x -- -d", interspersed=False)

    assert options.texts("env") == ["A=1"]
    assert not options.enabled("detach")
    assert arguments == ["id", "ls", "--env", "x", "--", "-d"]
    assert cut("-- id -d", interspersed=False)[1] == ["id", "-d"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--bogus id", "flag provided but not defined: -bogus"),
        ("-x=1 id", "flag provided but not defined: -x"),
        ("-dt id", "flag provided but not defined: -dt"),
        ("id -b", "flag needs an argument: -b"),
        ("--bundle", "flag needs an argument: -bundle"),
        ("--detach=maybe id", 'invalid boolean value "maybe" for -detach: parse error'),
        ("--preserve-fds=x", 'invalid value "x" for flag -preserve-fds: parse error'),
        ("--preserve-fds ٣", 'invalid value "٣" for flag -preserve-fds: parse error'),
        (
            f"--preserve-fds {1 << 63}",
            f'invalid value "{1 << 63}" for flag -preserve-fds: value out of range',
        ),
        ("-g 1 -g x", 'invalid value "x" for flag -g: parse error'),
        ("--interval 5", 'invalid value "5" for flag -interval: parse error'),
        ("--interval=", 'invalid value "" for flag -interval: parse error'),
        ("---detach", "bad flag syntax: ---detach"),
        ("--=x", "bad flag syntax: --=x"),
    ],
)
def test_a_wrong_command_line_is_refused_in_runcs_words(line: str, message: str) -> None:
    assert problem(line) == message


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), ("0x10", 16), ("010", 8), ("-010", -8), ("+7", 7), ("0", 0)]
)
def test_a_number_may_have_a_base(text: str, number: int) -> None:
    assert cut(f"--preserve-fds {text}")[0].number("preserve-fds") == number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("250ms", 0.25), ("0", 0.0), ("-2s", -2.0)],
)
def test_a_duration_has_units(text: str, seconds: float) -> None:
    assert cut(f"--interval {text}")[0].seconds("interval") == pytest.approx(seconds)
