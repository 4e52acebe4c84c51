"""The metadata tree of a router that is believed, from answers by path; the clock is nobody's."""

from __future__ import annotations

from typing import Callable, Dict, List, Union

import pytest
from support.samples import make_key

from csagent.errors import Absent, ProbeError, Refused, Stalled, TimedOut
from csagent.sources.refusals import MTU
from csagent.sources.router.http import Answer
from csagent.sources.router.metadata import LEGACY, MODERN, RESTLESS, MetadataReader, MetadataTree
from csagent.system.seams import Clock

Reply = Union[bytes, Answer, ProbeError, Callable[[], Union[Answer, ProbeError]]]


class Still(Clock):
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


def read(replies: Dict[str, Reply], listing: str = "") -> MetadataTree:
    """The tree of a router with these replies; every other path is 404."""

    def get(path: str, _cap: int) -> Answer:
        reply = replies.get(path, Absent("404"))
        if callable(reply):
            reply = reply()
        if isinstance(reply, ProbeError):
            raise reply
        return reply if isinstance(reply, Answer) else Answer(reply, True, 60.0)

    names = Answer(listing.encode(), True, 60.0)
    return MetadataReader(get, "router 10.1.1.1", 30.0, Still()).read("i-2-3-VM", names, legacy=False)


def keys_directory(*children: bytes) -> Dict[str, Reply]:
    """A directory of public keys (field/cloudstack#2.8)."""
    numbers = "\n".join(f"{number}=key" for number in range(len(children)))
    replies: Dict[str, Reply] = {MODERN + "public-keys/": numbers.encode()}
    for number, child in enumerate(children):
        replies[f"{MODERN}public-keys/{number}/openssh-key"] = child
    return replies


def test_a_listed_key_without_a_body_is_missing() -> None:
    """Its number is in the list, so that the set is not whole, even where no other key is there."""
    tree = read(keys_directory(make_key(1).encode(), b""), listing="public-keys/")
    assert tree.ssh_keys == (make_key(1),) and "listed, but empty" in tree.doubts["ssh_keys"]
    alone = read(keys_directory(b"\n"), listing="public-keys/")
    assert alone.ssh_keys == () and "listed, but empty" in alone.doubts["ssh_keys"]
    whole = read(keys_directory(make_key(1).encode(), make_key(2).encode()), listing="public-keys/")
    assert whole.ssh_keys == (make_key(1), make_key(2)) and whole.doubts == {} and whole.complete


def test_what_is_always_written_anew_and_always_empty_is_empty() -> None:
    """A router that touches its files all the time has no keys for this machine all the same."""
    tree = read({MODERN + "public-keys": Answer(b"", True, 0.0)})
    assert tree.ssh_keys == () and tree.doubts == {} and tree.complete


def test_restless_values() -> None:
    """A value that differs at each look is in doubt where it is a datum, and else holds up nobody."""
    looks: List[int] = []

    def restless() -> Answer:
        looks.append(1)
        return Answer(f"r{len(looks)}".encode(), True, 0.0)

    tree = read({MODERN + "custom": restless}, listing="custom")
    assert tree.metadata["custom"].startswith("r") and tree.doubts == {} and tree.complete
    tree = read({MODERN + "local-hostname": restless})
    assert tree.doubts == {"hostname": RESTLESS} and not tree.complete


LATE = TimedOut("no answer in time")
SMALL: Dict[str, Reply] = {MODERN + "local-hostname": b"web01"}


@pytest.mark.parametrize("late", [LATE, Stalled(1380), Stalled(0)])
@pytest.mark.parametrize("path", [MODERN + "public-keys", LEGACY + "user-data"])
def test_small_replies_only_name_the_mtu(path: str, late: ProbeError) -> None:
    """What fits into one packet came, the keys or user-data did not: they are unknown, with the reason."""
    tree = read({**SMALL, path: late})
    assert tree.only_small and not tree.complete
    (refusal,) = tree.refusals
    assert refusal.reason == f"{late}; {MTU}" and not refusal.answered


@pytest.mark.parametrize(
    "replies",
    [
        SMALL,
        {**SMALL, MODERN + "public-keys": Refused("HTTP 403")},
        {**SMALL, MODERN + "public-keys": Stalled(50_000)},
        {**SMALL, MODERN + "public-keys": LATE, LEGACY + "user-data": b"x" * 2000},
        {MODERN + "public-keys": LATE, MODERN + "local-hostname": LATE, MODERN + "vm-id": b"7"},
        {MODERN + "public-keys": LATE},
    ],
)
def test_other_trouble_does_not(replies: Dict[str, Reply]) -> None:
    """A refusal, a router that is slow with everything, or something large that came: no word of the MTU."""
    tree = read(replies)
    assert not tree.only_small and "MTU" not in repr(tree.refusals)


def test_the_older_paths() -> None:
    """What is listed and 404 below meta-data/ is looked for below latest/ (field/cloudstack#2.2)."""
    tree = read({LEGACY + "public-keys": make_key(1).encode()}, listing="public-keys")
    assert tree.ssh_keys == (make_key(1),) and tree.doubts == {}
