"""The words of config.md's table of mount options, and everything that is none of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer import kernel
from libpycontainer.errors import SpecError
from libpycontainer.plan import options

ATIME = kernel.MOUNT_ATTR_ATIME
# Word: attributes to set, attributes to clear (include/uapi/linux/mount.h). Spelled out once more,
# from config.md#linux-mount-options, and not derived from the code under test.
ATTRIBUTES = {
    "ro": (0x01, 0),
    "rw": (0, 0x01),
    "nosuid": (0x02, 0),
    "suid": (0, 0x02),
    "nodev": (0x04, 0),
    "dev": (0, 0x04),
    "noexec": (0x08, 0),
    "exec": (0, 0x08),
    "nodiratime": (0x80, 0),
    "diratime": (0, 0x80),
    "nosymfollow": (0x200000, 0),
    "symfollow": (0, 0x200000),
    "noatime": (0x10, 0x70),
    "atime": (0x00, 0x70),
    "relatime": (0x00, 0x70),
    "norelatime": (0, 0),
    "strictatime": (0x20, 0x70),
    "nostrictatime": (0x00, 0x70),
}
# Those that name a mode; the others only take one back (as runc's table has it).
ATIME_WORDS = ["noatime", "relatime", "strictatime"]
PROPAGATION = {
    "unbindable": 1 << 17,
    "private": 1 << 18,
    "slave": 1 << 19,
    "shared": 1 << 20,
}
OF_THE_FILE_SYSTEM = ("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand")
WITHOUT_EFFECT = (
    "defaults",
    "silent",
    "loud",
    "iversion",
    "noiversion",
    "acl",
    "noacl",
    "",
)
EXTENSIONS = ("remount", "tmpcopyup", "idmap", "ridmap")
KNOWN = {
    *ATTRIBUTES,
    *(f"r{word}" for word in ATTRIBUTES),
    *PROPAGATION,
    *(f"r{word}" for word in PROPAGATION),
    *OF_THE_FILE_SYSTEM,
    *WITHOUT_EFFECT,
    *EXTENSIONS,
    "bind",
    "rbind",
}


def fields(parsed: options.Options) -> dict[str, object]:
    return {name: getattr(parsed, name) for name in parsed.__slots__}


def changed(*words: str) -> dict[str, object]:
    """What these options make different from none."""
    without = fields(options.parse([]))
    return {
        name: value
        for name, value in fields(options.parse(words)).items()
        if value != without[name]
    }


@pytest.mark.parametrize("word", ATTRIBUTES)
def test_an_attribute_is_set_or_cleared_on_the_mount_itself(word: str) -> None:
    set_, clear = ATTRIBUTES[word]
    parsed = options.parse([word])
    assert (parsed.set, parsed.clear, parsed.given) == (set_, clear, True)
    assert set(changed(word)) <= {"set", "clear", "given"}


@pytest.mark.parametrize("word", ATTRIBUTES)
def test_an_attribute_after_r_goes_for_the_whole_tree(word: str) -> None:
    set_, clear = ATTRIBUTES[word]
    parsed = options.parse([f"r{word}"])
    assert (parsed.tree_set, parsed.tree_clear, parsed.given) == (set_, clear, False)
    assert set(changed(f"r{word}")) <= {"tree_set", "tree_clear"}


@pytest.mark.parametrize("word", PROPAGATION)
def test_propagation_is_kept_in_order_and_r_makes_it_recursive(word: str) -> None:
    flag = PROPAGATION[word]
    assert changed(word) == {"propagation": [(flag, False)]}
    assert changed(f"r{word}", word) == {"propagation": [(flag, True), (flag, False)]}


def test_bind_and_rbind_are_told_apart() -> None:
    assert changed("bind") == {"bind": True}
    assert changed("rbind") == {"bind": True, "recursive_bind": True}


@pytest.mark.parametrize("word", OF_THE_FILE_SYSTEM)
def test_an_option_of_the_superblock_is_neither_an_attribute_nor_data(word: str) -> None:
    assert changed(word) == {"superblock": [word]}


@pytest.mark.parametrize("word", WITHOUT_EFFECT)
def test_a_word_without_effect_changes_nothing(word: str) -> None:
    assert changed(word) == {}


@pytest.mark.parametrize("word", EXTENSIONS)
def test_a_runtime_extension_is_reported_as_one(word: str) -> None:
    assert changed(word) == {"extensions": [word]}


@pytest.mark.parametrize("word", ["size=65536k", "newinstance", "rolling", "r", "bindfs", "RO"])
def test_every_other_word_is_data_for_the_file_system(word: str) -> None:
    key, equals, value = word.partition("=")
    assert changed(word) == {"data": [(key, value if equals else None)]}


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("mode=755", [("mode", "755")]),
        ("size=1m,mode=755", [("size", "1m"), ("mode", "755")]),
        ("a,,b", [("a", None), ("b", None)]),
        ("empty=", [("empty", "")]),
        ("context=a=b", [("context", "a=b")]),
        (r"lowerdir=/a\,b:/c,upperdir=/d", [("lowerdir", "/a,b:/c"), ("upperdir", "/d")]),
        (r"lowerdir=/a\:b", [("lowerdir", r"/a\:b")]),
        (r"lowerdir=/a\\,b", [("lowerdir", r"/a\\"), ("b", None)]),
        ("trailing\\", [("trailing\\", None)]),
    ],
)
def test_data_is_split_at_commas_that_are_not_escaped(
    text: str, pairs: list[tuple[str, str | None]]
) -> None:
    assert options.split_data(text) == pairs


@given(st.dictionaries(st.text("abc", min_size=1), st.text("ab,:/ ="), max_size=4))
def test_values_with_escaped_commas_come_back_whole(values: dict[str, str]) -> None:
    text = ",".join(f"{key}={value}".replace(",", "\\,") for key, value in values.items())
    assert options.split_data(text) == list(values.items())


@given(st.text(alphabet=st.characters(exclude_characters=",="), min_size=1))
def test_no_word_is_lost(word: str) -> None:
    parsed = options.parse([word])
    assert (word in KNOWN) or parsed.data == [(word, None)]
    assert options.is_data(word) == (word not in KNOWN)


@given(
    st.lists(st.sampled_from(sorted(ATTRIBUTES))),
    st.sampled_from(sorted(set(ATTRIBUTES) - {"atime", "norelatime", "nostrictatime"})),
)
def test_the_last_word_about_an_attribute_wins(words: list[str], last: str) -> None:
    set_, clear = ATTRIBUTES[last]
    parsed = options.parse([*words, last])
    touched = set_ | clear
    assert parsed.set & touched == set_
    assert parsed.clear & touched & ~set_ == clear & ~set_


@given(st.lists(st.sampled_from(sorted(KNOWN))))
def test_the_access_time_is_one_field_that_is_cleared_as_a_whole(words: list[str]) -> None:
    parsed = options.parse(words)
    for set_, clear in ((parsed.set, parsed.clear), (parsed.tree_set, parsed.tree_clear)):
        # mount_setattr refuses anything else with EINVAL.
        assert clear & ATIME in (0, ATIME)
        assert set_ & ATIME in (0, 0x10, 0x20)
        assert not set_ & ATIME or clear & ATIME == ATIME
        assert set_ & clear & ~ATIME == 0


@pytest.mark.parametrize("first", ATIME_WORDS)
@pytest.mark.parametrize("last", ATIME_WORDS)
def test_a_later_access_time_mode_replaces_an_earlier_one(first: str, last: str) -> None:
    assert options.parse([first, last]).set & ATIME == ATTRIBUTES[last][0]


@given(st.permutations(["ro", "nosuid", "rnoexec", "size=1m", "rslave", "rbind"]))
def test_options_about_different_things_do_not_depend_on_their_order(words: list[str]) -> None:
    assert fields(options.parse(words)) == fields(options.parse(sorted(words)))


def test_read_only_follows_the_last_of_ro_and_rw() -> None:
    assert options.parse(["rw", "ro"]).read_only
    assert not options.parse(["ro", "rw"]).read_only
    assert not options.parse(["rro"]).read_only


@pytest.mark.parametrize("word", PROPAGATION)
def test_rootfs_propagation_is_a_flag_and_a_depth(word: str) -> None:
    assert options.propagation_flag(word, "$.x") == (PROPAGATION[word], False)
    assert options.propagation_flag(f"r{word}", "$.x") == (PROPAGATION[word], True)


@pytest.mark.parametrize("word", ["", "r", "rrslave", "Shared", "bind"])
def test_another_rootfs_propagation_is_refused_with_its_path(word: str) -> None:
    with pytest.raises(SpecError) as caught:
        options.propagation_flag(word, "$.linux.rootfsPropagation")
    assert [problem.path for problem in caught.value.problems] == ["$.linux.rootfsPropagation"]
    assert repr(word) in str(caught.value)
