"""What the files of a config drive say."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.errors import Absent, Foreign, Malformed, ProbeError
from csagent.lab.drive import escape
from csagent.model import Reading
from csagent.sources.drive import layout
from csagent.sources.drive.content import interpret, unescape
from csagent.sources.drive.layout import METADATA, Contents

UUID = "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f"
OTHER = "00000000-0000-4000-8000-000000000001"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example"
KEY2 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA two@example"


def contents(files: Dict[str, Any], cloudstack: bool = True, **more: Any) -> Contents:
    """A drive with these files: bytes, text, or what becomes JSON."""
    raw = {
        name: value
        if isinstance(value, bytes)
        else value.encode()
        if isinstance(value, str)
        else json.dumps(value).encode()
        for name, value in files.items()
    }
    return Contents(
        **{
            "files": raw,
            "present": frozenset(raw),
            "cloudstack": cloudstack,
            "empty": not raw and not cloudstack,
            **more,
        }
    )


def read(files: Dict[str, Any], **more: Any) -> Reading:
    """The reading of such a drive."""
    return interpret(contents(files, **more), "drive /dev/sr1")[0]


def refusals(reading: Reading, datum: Optional[str] = None) -> list:
    """The reasons, of one datum or all."""
    return [refusal.reason for refusal in reading.refusals if datum in (None, refusal.datum)]


# --- metadata


def test_cloudstack_wins_and_meta_data_fills_what_it_lacks() -> None:
    """Per value: hostname from the file, zone and id from the JSON; name is never taken for anything."""
    reading = read(
        {
            METADATA + "local-hostname": "web01",
            layout.META_DATA: {
                "hostname": "other",
                "availability_zone": "zone-a",
                "uuid": UUID.upper(),
                "name": "203.0.113.9",
                "cloud-name": "ours",
                "tier": "frontend",
            },
        }
    )
    assert reading.metadata == {
        "local-hostname": "web01",
        "availability-zone": "zone-a",
        "vm-id": UUID.upper(),
        "cloud-name": "ours",
        "tier": "frontend",
    }
    assert reading.instance_id == UUID
    assert (reading.channel, reading.place, reading.refusals) == ("drive", "drive /dev/sr1", ())


@pytest.mark.parametrize(
    ("files", "expected", "reasons"),
    [
        ({METADATA + "instance-id": UUID, METADATA + "vm-id": OTHER}, UUID, 0),
        ({METADATA + "instance-id": "i-2-3-VM"}, "i-2-3-VM", 0),
        ({METADATA + "vm-id": UUID + "\n"}, UUID, 0),
        ({METADATA + "vm-id": "42"}, None, 0),
        ({METADATA + "vm-id": "42", layout.META_DATA: {"uuid": UUID}}, UUID, 0),
        ({METADATA + "instance-id": "nonsense", METADATA + "vm-id": UUID}, UUID, 1),
        ({layout.META_DATA: {"uuid": "nonsense"}}, None, 1),
        ({}, None, 0),
    ],
)
def test_the_instance_id_comes_from_the_first_that_has_one(
    files: Dict[str, Any], expected: Optional[str], reasons: int
) -> None:
    """instance-id, vm-id where it is no plain number (as before #2566), the uuid of meta_data.json."""
    reading = read(files)
    assert reading.instance_id == expected
    assert len(refusals(reading, "instance_id")) == reasons


def test_escapes_are_undone_where_cloudstack_writes_them() -> None:
    """Zone, offering, host name and the user's own keys; other values stay as they are."""
    reading = read(
        {
            METADATA + "availability-zone": r"Z\u00FCrich \uD83D\uDE00",
            METADATA + "tier": r"\u524D",
            METADATA + "cloud-identifier": r"CloudStack-{\u0041}",
            METADATA + "service-offering": r"half \uD83D of a pair",
            METADATA + "evil": r"a\u0000b",
        }
    )
    assert reading.metadata == {
        "availability-zone": "Zürich 😀",
        "tier": "前",
        "cloud-identifier": r"CloudStack-{\u0041}",
        "service-offering": r"half \uD83D of a pair",
    }
    assert refusals(reading) == ["evil: control characters in the value"]


def test_bad_values_are_refused_and_good_ones_beside_them_used() -> None:
    """A MAC for an address (field/cloudstack#edge-20), not UTF-8, control characters, no keys."""
    reading = read(
        {
            METADATA + "local-ipv4": "02:01:00:aa:bb:cc",
            METADATA + "public-ipv4": "10.1.1.300",
            METADATA + "local-hostname": b"w\xffb",
            METADATA + "cloud-name": b"a\x1b[31m",
            METADATA + "../../etc/passwd": "x",
            METADATA + "availability-zone": "zone",
            METADATA + "hypervisor-host-name": " \n",
        }
    )
    assert reading.metadata == {"availability-zone": "zone"}
    assert refusals(reading, "hostname") == ["local-hostname: not UTF-8"]
    assert "local-ipv4: a MAC address, not an IPv4 address" in refusals(reading, "metadata")
    assert len(reading.refusals) == 5
    assert all("\x1b" not in reason and "\n" not in reason for reason in refusals(reading))


def test_a_key_of_the_plain_tree_gets_its_name_from_json() -> None:
    """tier-x is tier_x in a plain ISO 9660 tree; meta_data.json still knows."""
    reading = read({METADATA + "tier_x": "1", METADATA + "zone_y": "2", layout.META_DATA: {"tier-x": "1"}})
    assert reading.metadata == {"tier-x": "1", "zone_y": "2"}


def test_two_thousand_bad_values_do_not_drown_the_password() -> None:
    """Refusals are cut, those of single metadata keys first."""
    files: Dict[str, Any] = {f"{METADATA}k{number}": b"\xff" for number in range(1990)}
    reading = read({**files, layout.PASSWORD: "two\nlines"})
    assert len(reading.refusals) == 65
    assert reading.refusals[0].datum == "password"
    assert reading.refusals[-1].reason == "1927 more values were refused"


# --- keys


def test_several_keys_are_several_keys() -> None:
    """LF and CR LF, repeats, blank lines; what is no key has a reason."""
    reading = read({METADATA + "public-keys": f"{KEY}\r\n\n{KEY2}\n{KEY}\nssh-ed25519 AAAA cut"})
    assert reading.ssh_keys == (KEY, KEY2)
    assert len(refusals(reading, "ssh_keys")) == 1


@pytest.mark.parametrize(
    "document",
    [
        {"public_keys": {"one@example\nssh-ed25519": f"{KEY}\n{KEY2}"}},
        {"keys": [{"type": "ssh", "data": f"{KEY}\n{KEY2}", "name": "key"}]},
        {"keys": [{"data": KEY}, {"data": 7}, "x"], "public_keys": {"key0": KEY, "key1": KEY2, "key2": None}},
        {"keys": "x", "public_keys": {"a": KEY, "b": KEY2}},
    ],
)
def test_keys_of_meta_data_are_used_where_the_file_has_none(document: Dict[str, Any]) -> None:
    """The malformed rendering of several keys (field/cloudstack#edge-56), and the fixed one of #14164."""
    assert read({layout.META_DATA: document}).ssh_keys == (KEY, KEY2)
    assert read({layout.META_DATA: document, METADATA + "public-keys": KEY}).ssh_keys == (KEY,)


def test_null_is_no_key() -> None:
    """Members that are null say that there is none; nothing is in doubt."""
    reading = read({layout.META_DATA: {"public_keys": None, "keys": [{"data": KEY}]}})
    assert reading.ssh_keys == (KEY,) and reading.doubts == {}
    assert read({layout.META_DATA: {"public_keys": {"a": KEY}, "keys": None}}).doubts == {}


def test_an_empty_file_beside_keys_in_json_is_in_doubt() -> None:
    """Both are written from the same list: where one has keys and the other none, something was lost."""
    document = {"public_keys": {"a": KEY}}
    reading = read({layout.META_DATA: document, METADATA + "public-keys": ""})
    assert reading.ssh_keys == (KEY,) and "public-keys.txt is empty" in reading.doubts["ssh_keys"]
    assert read({layout.META_DATA: document}).doubts == {}
    lost = read({layout.META_DATA: document}, problems={METADATA + "public-keys": "a directory"})
    assert lost.ssh_keys == (KEY,) and "a directory" in lost.doubts["ssh_keys"]


# --- password


def short_md5() -> str:
    """A password whose md5 begins with a zero."""
    return next(
        f"EXAMPLE{n}" for n in range(999) if hashlib.md5(f"EXAMPLE{n}".encode()).hexdigest()[0] == "0"
    )


@pytest.mark.parametrize("suffix", ["", "\n", "\r\n"])
@pytest.mark.parametrize(
    "spelling", [str, str.upper, lambda text: text.lstrip("0"), lambda text: text + "\n"]
)
def test_a_password_with_a_right_checksum_is_offered(suffix: str, spelling: Any) -> None:
    """The md5 of the password without newline, compared as a number: leading zeros are missing."""
    password = short_md5()
    checksum = spelling(hashlib.md5(password.encode()).hexdigest())
    reading = read({layout.PASSWORD: password + suffix, layout.CHECKSUM: checksum})
    assert reading.password.state == "offered"
    assert reading.password.value is not None and reading.password.value.reveal() == password.encode()
    assert (reading.password.place, reading.password.endpoints) == ("drive /dev/sr1", ())


@pytest.mark.parametrize(
    "checksum",
    [
        hashlib.md5(b"another").hexdigest(),
        hashlib.md5(b"EXAMPLE-pw\n").hexdigest(),
        "no number",
        "0x12",
        "1_2",
        "f" * 33,
        "-1",
    ],
)
def test_a_password_with_a_wrong_checksum_is_refused(checksum: str) -> None:
    """Mismatch and nonsense alike; the reason has nothing of the password."""
    reading = read({layout.PASSWORD: "EXAMPLE-pw", layout.CHECKSUM: checksum})
    assert reading.password.state == "unknown"
    assert reading.password.value is None
    (reason,) = refusals(reading, "password")
    assert "md5 checksum" in reason and "EXAMPLE" not in reason and checksum not in reason


def test_a_blank_checksum_says_nothing() -> None:
    """CloudStack writes no file for a blank value, so a blank file is no evidence."""
    reading = read({layout.PASSWORD: "EXAMPLE-pw", layout.CHECKSUM: "\n"})
    assert reading.password.state == "offered"


@pytest.mark.parametrize("files", [{}, {layout.PASSWORD: "saved_password"}, {layout.PASSWORD: ""}])
def test_no_password_file_means_that_none_is_waiting(files: Dict[str, Any]) -> None:
    """The usual state (field/cloudstack#edge-61), and what an old release may write there."""
    reading = read(files)
    assert reading.password.state == "none"
    assert refusals(reading) == []


def test_what_cannot_be_a_password_is_refused() -> None:
    """Without a byte of it in the reason, nor in the repr of the reading."""
    reading = read({layout.PASSWORD: "EXAMPLE-one\nEXAMPLE-two"})
    assert reading.password.state == "unknown"
    assert refusals(reading, "password") == ["several lines where a password should be"]
    assert "EXAMPLE" not in repr(reading)


def test_an_unreadable_password_is_unknown_not_none() -> None:
    """A file that could not be read is no proof that none is waiting."""
    reading = read({}, problems={layout.PASSWORD: "cut short: 0 of 9 bytes"})
    assert reading.password.state == "unknown"
    assert refusals(reading, "password") == ['"password/vm_password.txt": cut short: 0 of 9 bytes']


def test_an_unreadable_checksum_refuses_the_password() -> None:
    """It is there, so it was meant to be checked."""
    files = {layout.PASSWORD: "EXAMPLE-pw"}
    assert read(files, problems={layout.CHECKSUM: "x"}).password.state == "unknown"


def test_the_contents_do_not_show_what_they_hold() -> None:
    """The repr of what was read, before it is a Secret."""
    assert "EXAMPLE" not in repr(contents({layout.PASSWORD: "EXAMPLE-pw"}))


# --- user-data and network


def test_user_data_is_every_byte_of_it() -> None:
    """Binary, with NULs and CR LF; the tree of cloudstack/ before that of openstack/."""
    raw = bytes(range(256)) + b"\r\n\0"
    assert read({layout.USER_DATA: raw, layout.OPENSTACK_USER_DATA: b"x"}).user_data == raw
    assert read({layout.USER_DATA: b"", layout.OPENSTACK_USER_DATA: raw}).user_data == raw
    assert read({}).user_data is None


def test_too_much_user_data_is_refused() -> None:
    """CloudStack allows 768 KiB; above 1 MiB it is nothing of CloudStack's."""
    reading = read({layout.USER_DATA: b"x" * ((1 << 20) + 1)})
    assert reading.user_data is None
    assert len(refusals(reading, "user_data")) == 1


@pytest.mark.parametrize(
    "raw", ["", "[", "[1]", '"x"', "[" * 100_000, '{"a": NaN}', '{"a": %s}' % ("9" * 5000), b"\xff"]
)
def test_json_that_is_none_costs_only_itself(raw: Any) -> None:
    """Truncated, deep, huge numbers, not an object: a reason, and everything else is read."""
    reading = read({METADATA + "instance-id": UUID, layout.META_DATA: raw, layout.NETWORK_DATA: raw})
    assert reading.instance_id == UUID
    assert reading.network is None
    assert len(refusals(reading, "metadata")) == 1
    assert len(refusals(reading, "network")) == 1


# --- whose drive


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({layout.META_DATA: {"uuid": UUID, "launch_index": 0, "hostname": "x"}}, Foreign),
        ({layout.META_DATA: {"uuid": UUID, "hostname": "x"}}, Foreign),
        ({layout.META_DATA: "{", layout.NETWORK_DATA: {}}, Malformed),
        ({layout.OPENSTACK_USER_DATA: "#!", layout.NETWORK_DATA: {}}, Foreign),
    ],
)
def test_a_drive_without_cloudstack_is_another_clouds(files: Dict[str, Any], error: type) -> None:
    """Unless its openstack tree says otherwise."""
    with pytest.raises(error):
        read(files, cloudstack=False)


def test_an_empty_drive_is_absent_and_one_with_other_things_foreign() -> None:
    """Two different reasons."""
    with pytest.raises(Absent, match="empty"):
        read({}, cloudstack=False)
    with pytest.raises(Foreign, match="neither"):
        read({}, cloudstack=False, empty=False)


@pytest.mark.parametrize("member", ["cloud-domain", "cloud-domain-id", "cloud-name", "hypervisor-host-name"])
def test_members_that_only_cloudstack_writes_make_it_cloudstacks(member: str) -> None:
    """Even beside a variable of the user's that is called like one of OpenStack's."""
    document = {member: "x", "uuid": UUID, "hostname": "web01", "devices": "mine"}
    reading = read({layout.META_DATA: document}, cloudstack=False)
    assert (reading.instance_id, reading.metadata["local-hostname"]) == (UUID, "web01")
    assert reading.password.state == "none"


def test_a_drive_with_only_the_network_gives_the_network() -> None:
    """CloudStack 4.20 with user-data elsewhere (field/cloudstack#edge-60): no identity, no password."""
    network = {"services": [{"type": "dns", "address": "10.7.0.2"}]}
    reading = read({layout.NETWORK_DATA: network, layout.VENDOR_DATA: b"{"}, cloudstack=False)
    assert reading.network is not None and reading.network["services"] == network["services"]
    assert (reading.instance_id, reading.metadata, reading.password.state) == (None, {}, "unknown")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{}", "an empty vendor_data.json"),
        (b'{"cloud-init": "#cloud-config\\npassword: EXAMPLE-marker\\n"}', "has cloud-init set a password"),
        (b'{"cloud-init": "#cloud-config\\nruncmd: [true]\\n"}', "vendor_data.json"),
        (b"{EXAMPLE-marker", "cannot be read"),
    ],
)
def test_of_vendor_data_only_its_kind_is_told(raw: bytes, words: str) -> None:
    """It may carry a password in clear (field/cloudstack#edge-43): nothing of it is ever repeated."""
    reading, detail = interpret(
        Contents({layout.VENDOR_DATA: raw}, frozenset({layout.VENDOR_DATA}), {}, True, False),
        "drive x",
    )
    assert words in detail and "marker" not in detail + repr(reading)
    assert reading.password.state == "none"


# --- anything at all

NAMES = [
    layout.PASSWORD,
    layout.CHECKSUM,
    layout.META_DATA,
    layout.NETWORK_DATA,
    layout.USER_DATA,
    METADATA + "public-keys",
    METADATA + "instance-id",
    METADATA + "local-ipv4",
    METADATA + "x",
]
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.just(UUID),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["uuid", "hostname", "keys", "public_keys", "data", "cloud-name", "x", "vm-id"]),
            inner,
        )
    ),
    max_leaves=12,
)
RAW = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())


@given(st.dictionaries(st.sampled_from(NAMES), RAW), st.booleans())
def test_any_contents_give_a_reading_or_a_reason(files: Dict[str, bytes], cloudstack: bool) -> None:
    """Nothing else is raised, and every text in a reading can be written as UTF-8."""
    try:
        reading = read(files, cloudstack=cloudstack)
    except ProbeError:
        return
    json.dumps([dict(reading.metadata), reading.ssh_keys, refusals(reading)], ensure_ascii=False).encode()


@given(st.text())
def test_escaping_is_undone(text: str) -> None:
    """What CloudStack's escape did to any text, unless the text itself had escapes in it."""
    assert escape(text).isascii()
    if "\\u" not in text:
        assert unescape(escape(text)) == text
