"""The status as a function of four facts, and what each status allows."""

from __future__ import annotations

import itertools

import pytest

from libpycontainer import status
from libpycontainer.errors import StatusError

STATUSES = ("creating", "created", "running", "paused", "stopped", "empty")
# recorded, alive, waiting, frozen
TABLE = {
    (False, False, False, False): "stopped",
    (False, False, False, True): "stopped",
    (False, False, True, False): "stopped",
    (False, False, True, True): "stopped",
    (False, True, False, False): "creating",
    (False, True, False, True): "creating",
    (False, True, True, False): "creating",
    (False, True, True, True): "creating",
    (True, False, False, False): "stopped",
    (True, False, False, True): "stopped",
    (True, False, True, False): "stopped",
    (True, False, True, True): "stopped",
    (True, True, False, False): "running",
    (True, True, False, True): "paused",
    (True, True, True, False): "created",
    (True, True, True, True): "paused",
}
ALLOWED = {
    "start": {"created"},
    "exec": {"created", "running"},
    "kill": {"created", "running", "paused"},
    "delete": {"created", "stopped", "empty"},
    "pause": {"created", "running", "empty"},
    "resume": {"paused"},
    "update": {"created", "running", "paused", "empty"},
    "events": {"created", "running", "paused", "empty"},
    "contain": {"created", "running", "empty"},
}
REFUSED = [
    (verb, each) for verb, allowed in ALLOWED.items() for each in STATUSES if each not in allowed
]


@pytest.mark.parametrize("facts", list(itertools.product([False, True], repeat=4)))
def test_a_status_follows_from_the_facts(facts: tuple[bool, bool, bool, bool]) -> None:
    recorded, alive, waiting, frozen = facts
    seen = status.Observation(recorded=recorded, alive=alive, waiting=waiting, frozen=frozen)
    assert status.observe(seen) == TABLE[facts]


def test_a_group_is_what_is_inside_of_it() -> None:
    assert status.observe_group(occupied=True, frozen=False) == "running"
    assert status.observe_group(occupied=False, frozen=False) == "empty"
    assert status.observe_group(occupied=True, frozen=True) == "paused"
    assert status.observe_group(occupied=False, frozen=True) == "paused"


def test_every_verb_has_its_statuses() -> None:
    assert {verb: set(allowed) for verb, allowed in status.ALLOWED.items()} == ALLOWED


@pytest.mark.parametrize(("verb", "each"), [(v, s) for v, a in ALLOWED.items() for s in sorted(a)])
def test_an_allowed_verb_passes(verb: str, each: str) -> None:
    status.check(verb, each, "web")
    assert each in status.ALLOWED[verb]


@pytest.mark.parametrize(("verb", "each"), REFUSED)
def test_a_refused_verb_names_itself_the_container_and_the_status(verb: str, each: str) -> None:
    with pytest.raises(StatusError) as caught:
        status.check(verb, each, "web")
    error = caught.value
    assert (error.verb, error.op, error.status) == (verb, verb, each)
    assert "web" in str(error)
    words = {"running": "running", "stopped": "stopped"}.get(each, each)
    assert words in str(error)


@pytest.mark.parametrize(
    ("verb", "each", "words"),
    [
        # containerd's shim takes this for a kill that came too late.
        ("kill", "stopped", "container not running"),
        ("delete", "running", "cannot delete container web that is not stopped: running"),
        ("delete", "paused", "that is not stopped: paused"),
        ("start", "running", "cannot start"),
        ("start", "stopped", "cannot start"),
        ("exec", "stopped", "cannot exec"),
    ],
)
def test_the_refusals_have_the_words_that_clients_look_for(
    verb: str, each: str, words: str
) -> None:
    with pytest.raises(StatusError, match=words):
        status.check(verb, each, "web")
