from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import INSTANCE, make_key

from csagent.errors import JailError
from csagent.model import (
    Candidate,
    Endpoint,
    Found,
    Lease,
    Nic,
    PasswordOffer,
    Platform,
    Reading,
    Refusal,
    Secret,
)
from csagent.sandbox import codec
from csagent.sources.checks import recheck

READING = Reading(
    "router",
    "router 10.1.1.1",
    INSTANCE,
    {"local-hostname": "web01", "tier": "ü"},
    (make_key(1),),
    PasswordOffer("offered", Secret(b"EXAMPLE\xff"), "p", "", (Endpoint("10.1.1.1", 8080, "10.1.1.42"),)),
    b"\x00\x1f\x8b",
    {"links": [{"mtu": 1500, "x": None}]},
    "eth0",
    (Refusal("a", "b", "c", False),),
    {"ssh_keys": "line 2: no key"},
    False,
)
FOUND = Found(
    nics=(Nic("eth0", 2, None, ("10.1.1.42",)),),
    leases=(Lease("eth0", "dhcpcd", "10.1.1.42", expires=1.5),),
    candidates=(Candidate("10.1.1.1", "gateway", "router of eth0", default=True),),
    platform=Platform(cloudstack=True),
)


@pytest.mark.parametrize("fact", [READING, FOUND, Reading("drive", "drive x"), Found()])
def test_round_trip(fact: Any) -> None:
    """A fact survives the pipe unchanged, bytes and secrets included."""
    assert codec.decode(type(fact), json.loads(json.dumps(codec.encode(fact)))) == fact


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"a": 1}},
        {"metadata": []},
        {"ssh_keys": "x"},
        {"ssh_keys": [1]},
        {"user_data": "not base64!"},
        {"user_data": 5},
        {"complete": "yes"},
        {"place": None},
        {"place": "\ud800"},
        {"password": {}},
        {"password": None},
        {"extra": 1},
        {"metadata": {"k": "x" * ((1 << 20) + 1)}},
        {"refusals": [{"datum": "a", "place": "b"}]},
        {"network": {"a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}},
    ],
)
def test_a_wrong_field_is_refused(change: Any) -> None:
    """Wrong types, unknown or missing fields, and oversized values name the field, not the value."""
    with pytest.raises(JailError, match="wrong"):
        codec.decode(Reading, {**codec.encode(READING), **change})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=20,
    )
)
def test_decode_is_total(document: Any) -> None:
    """Whatever a child says, it is a fact or a JailError."""
    for kind in (Reading, Found):
        with pytest.raises(JailError):
            codec.decode(kind, document)


@given(
    st.sampled_from(sorted(codec.encode(READING))),
    st.none() | st.integers() | st.text() | st.lists(st.integers()),
)
def test_a_mutated_reading_never_gets_through_broken(name: str, value: Any) -> None:
    """One field replaced by anything: refused, or a reading that keeps the rules."""
    try:
        reading = recheck(codec.decode(Reading, {**codec.encode(READING), name: value}))
    except JailError:
        return
    assert isinstance(reading.metadata, dict) and isinstance(reading.password, PasswordOffer)


@pytest.mark.parametrize(
    "changes",
    [
        {"instance_id": "../../x"},
        {"ssh_keys": ("root:x:0:0",)},
        {"metadata": {"../../etc/passwd": "x"}},
        {"metadata": {"a": "\x1b[2J"}},
        {"password": PasswordOffer("offered", Secret(b"two\nlines"))},
        {"password": PasswordOffer("maybe")},
        {"password": PasswordOffer("offered", Secret(b"EXAMPLE"), endpoints=(Endpoint("evil.example", 80),))},
        {"password": PasswordOffer("offered", Secret(b"EXAMPLE"), endpoints=(Endpoint("10.0.0.1", 0),))},
        {"channel": "other"},
    ],
)
def test_recheck_holds_it_against_the_rules_again(changes: Any) -> None:
    """A child that was taken over cannot hand over what the rules refuse."""
    from support.replace_fields import replace

    with pytest.raises(JailError):
        recheck(replace(READING, **changes))


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "\x9b", "a\u202eb", "a\nb", "x" * 9000, "\x07" * 700])
def test_a_text_is_one_line_that_steers_no_terminal(text: str) -> None:
    """Every text of a child is cleaned and cut, in whatever field; what CloudStack says stays as it is."""
    lie = READING._replace(
        place=text,
        interface=text,
        refusals=(Refusal(text, text, text),),
        doubts={text: text},
        metadata={"tier": text},
        network={"x": text},
    )
    read = codec.decode(Reading, codec.encode(lie))
    refusal = read.refusals[0]
    shown = [read.place, read.interface, refusal.datum, refusal.reason, *read.doubts, *read.doubts.values()]
    for one in shown:
        assert one is not None and one.isprintable() and 0 < len(one) <= 500
    assert read.metadata == {"tier": text} and read.network == {"x": text}
    found = codec.decode(Found, codec.encode(FOUND._replace(notes=(text,))))
    assert found.notes[0].isprintable()
