"""The metadata tree of a router that is believed, from answers by path; the clock is nobody's."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Union

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


def read(replies: Dict[str, Reply], listing: Union[str, Answer] = "", **fields: Any) -> MetadataTree:
    """The tree of a router with these replies; every other path is 404."""
    fields = {"legacy": False, **fields}
    names = listing if isinstance(listing, Answer) else Answer(listing.encode(), True, 60.0)
    replies = {MODERN: names, **replies}

    def get(path: str, _cap: int) -> Answer:
        reply = replies.get(path, Absent("404"))
        if callable(reply):
            reply = reply()
        if isinstance(reply, ProbeError):
            raise reply
        return reply if isinstance(reply, Answer) else Answer(reply, True, 60.0)

    return MetadataReader(get, "router 10.1.1.1", 30.0, Still()).read("i-2-3-VM", names, **fields)


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


def in_turn(*bodies: bytes, age: Optional[float] = 0.0) -> Callable[[], Answer]:
    """A file that is another one at each request, until it is the last one."""
    left = list(bodies)
    return lambda: Answer(left.pop(0) if len(left) > 1 else left[0], True, age)


@pytest.mark.parametrize(
    ("first", "age"), [(b"", 0.0), (b"local-hostname\nro", 0.5), (b"", 60.0), (b"", None)]
)
def test_a_listing_that_is_just_being_written(first: bytes, age: Optional[float]) -> None:
    """Empty or young, it is asked for again, and what only the whole one names is read."""
    replies: Dict[str, Reply] = {MODERN: b"local-hostname\nrole\n", MODERN + "role": b"web"}
    replies[MODERN + "local-hostname"] = b"web01"
    tree = read(replies, Answer(first, True, age))
    assert tree.metadata["role"] == "web" and tree.refusals == () and tree.complete
    replies[MODERN] = in_turn(b"", b"local-hostname\n", b"local-hostname\nrole\n", age=0.1)
    assert read(replies, Answer(first, True, age)).metadata["role"] == "web"


def test_a_listing_that_never_settles() -> None:
    """What it named first is read, it is said, and a later look may find more."""
    restless = in_turn(*(b"role\n%d\n" % number for number in range(50)))
    tree = read({MODERN: restless, MODERN + "role": b"web"}, Answer(b"role\n", True, 0.0))
    assert tree.metadata["role"] == "web" and not tree.complete
    assert next((one.datum, one.reason) for one in tree.refusals) == ("listing", RESTLESS)


@pytest.mark.parametrize("age", [60.0, None])
def test_a_listing_that_is_not_young_is_asked_for_once(age: Optional[float]) -> None:
    """A thousand VMs ask one router: no request more than is needed."""

    def never() -> ProbeError:
        raise AssertionError("asked again")

    tree = read({MODERN: never, MODERN + "role": b"web"}, Answer(b"role\n", True, age))
    assert tree.metadata["role"] == "web" and tree.complete


def test_a_list_of_keys_that_is_just_being_written() -> None:
    """The second key is not taken for revoked."""
    replies = keys_directory(make_key(1).encode(), make_key(2).encode())
    replies[MODERN + "public-keys/"] = in_turn(b"0=key\n", b"0=key\n1=key\n")
    assert read(replies, listing="public-keys/").ssh_keys == (make_key(1), make_key(2))


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


def test_keys_that_are_younger_than_the_older_paths_are_not_asked_there() -> None:
    """Some routers answer there with the vm-id (field/cloudstack#2.2)."""
    replies: Dict[str, Reply] = {LEGACY + key: b"i-2-3-VM" for key in ("cloud-domain", "cloud-domain-id")}
    replies[LEGACY + "vm-id"] = b"7"
    listing = "cloud-domain\ncloud-domain-id\nvm-id\n"
    assert set(read(replies, listing).metadata) == {"instance-id", "vm-id"}
    assert set(read(replies, legacy=True).metadata) == {"instance-id", "vm-id"}


def test_values_that_are_only_shown_are_kept_as_they_are() -> None:
    """Markup, tabs and line ends; but no page in place of a key that nobody has listed."""
    replies: Dict[str, Reply] = {
        MODERN + "role": b"<h1>Hi</h1>",
        MODERN + "availability-zone": b"<p>z\tone",
        MODERN + "service-offering": b"two\r\nlines",
        MODERN + "vm-id": b"<html>404</html>",
        MODERN + "local-hostname": b"<p>web",
        MODERN + "gr%C3%B6%C3%9Fe": b"XL",
        MODERN + "%24a%28b%29": b"1",
    }
    tree = read(replies, "role\navailability-zone\nservice-offering\nlocal-hostname\ngröße\n$a(b)\n")
    assert tree.metadata == {
        "instance-id": "i-2-3-VM",
        "role": "<h1>Hi</h1>",
        "availability-zone": "<p>z\tone",
        "service-offering": "two\r\nlines",
        "größe": "XL",
        "$a(b)": "1",
    }
    assert {refusal.datum for refusal in tree.refusals} == {"local-hostname"}, (
        "not listed: vm-id is not asked for"
    )


def test_a_page_for_a_key_that_is_not_listed_is_no_value() -> None:
    """Without a listing the known keys are asked for; some servers have a page for what is not there."""
    tree = read({MODERN + "vm-id": b"<html>404</html>", MODERN + "cloud-name": b"x"})
    assert tree.metadata == {"instance-id": "i-2-3-VM", "cloud-name": "x"}
    assert [(one.datum, one.reason) for one in tree.refusals] == [("vm-id", "HTML where a value should be")]


def test_the_directory_of_the_vm() -> None:
    """Its keys and its user-data by its own address, and nothing below /latest."""
    replies: Dict[str, Reply] = {
        "/metadata/10.1.1.42/local-hostname": b"web01",
        "/metadata/10.1.1.42/role": b"x",
        "/metadata/10.1.1.42/public-keys": make_key(1).encode(),
        "/userdata/10.1.1.42/user-data": b"#!/bin/sh",
    }

    def never() -> ProbeError:
        raise AssertionError("asked below /latest")

    replies.update({base + key: never for base in (MODERN, LEGACY) for key in ("vm-id", "user-data", "role")})
    tree = read(replies, "local-hostname\npublic-keys\nrole\nvm-id\n", own="10.1.1.42")
    assert (tree.metadata["local-hostname"], tree.metadata["role"]) == ("web01", "x")
    assert (tree.ssh_keys, tree.user_data) == ((make_key(1),), b"#!/bin/sh")
