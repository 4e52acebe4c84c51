from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import make_key

from csagent import validation
from csagent.errors import Absent, Malformed, ProbeError

GOOD_PASSWORDS = [
    b"Xy7kPqEXAMPLE",
    b" inner and outer blanks stay ",
    b"-n",
    b"a:b=c%d#e\\f\"g'$h`",
    "pässwörd-EXAMPLE".encode(),
    b"\xff\xfe-EXAMPLE",
    b"x" * 256,
    b"<b>EXAMPLE",
    b"saved_password2",
    b"HTTP/1.0 400 EXAMPLE",
    b"<html>EXAMPLE",
    b"<center>9",
    b"a\tb",
]


@pytest.mark.parametrize("raw", GOOD_PASSWORDS)
def test_password_is_taken_as_it_is(raw: bytes) -> None:
    """Any bytes but control characters are a password, unchanged."""
    assert validation.password(raw).reveal() == raw


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_password_loses_one_line_end(end: bytes) -> None:
    """One trailing LF or CR LF is removed and nothing else is (field/cloudstack#edge-33)."""
    assert validation.password(b" EXAMPLE " + end).reveal() == b" EXAMPLE "


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"  ", b"saved_password", b"saved_password\n", b"bad_request", b"bad_request\r\n"]
)
def test_no_password_is_waiting(raw: bytes) -> None:
    """The words for "nothing for you" are no error (field/cloudstack#edge-16, #edge-31, #edge-41)."""
    with pytest.raises(Absent):
        validation.password(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"saved_password ",
        b" saved_password",
        b"Saved_Password",
        b"BAD_REQUEST\n",
        b"HTTP/1.0 400 Bad request\r\nServer: x\r\n\r\nbad_request",
        b"one\ntwo",
        b"EXAMPLE\n\n",
        b"a\0b",
        b"a\x1b[0m",
        b"a\x7f",
        b"x" * 257,
    ],
)
def test_what_is_not_a_password(raw: bytes) -> None:
    """What is no password is refused (field/cloudstack#edge-31), without a byte of it in the reason."""
    with pytest.raises(Malformed) as caught:
        validation.password(raw)
    assert raw.decode("latin-1").strip()[:8] not in str(caught.value).replace("HTTP status", "").replace(
        "HTML", ""
    )


@pytest.mark.parametrize("raw", [b"HTTP/1.0 400 Bad request", b"<!DOCTYPE html><html>", b"  <p>404", b"a\tb"])
def test_what_any_web_server_says_is_no_password_of_it(raw: bytes) -> None:
    """From a drive and from who signs it is one, as it is."""
    with pytest.raises(Malformed):
        validation.password(raw, unsigned=True)
    assert validation.password(raw).reveal() == raw


@given(st.binary(max_size=400))
def test_password_is_total(raw: bytes) -> None:
    """Whatever the bytes, the answer is a password without control characters or a ProbeError."""
    try:
        secret = validation.password(raw)
    except ProbeError:
        return
    value = secret.reveal()
    assert 0 < len(value) <= 256
    assert not any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in value)


@pytest.mark.parametrize(
    "name", ["web01", "Web-01", "a", "x" * 63, "a.b.example", "0day", "i-2-3-VM", "123abc"]
)
def test_good_hostnames(name: str) -> None:
    """RFC 1123 names are taken as they are."""
    assert validation.hostname(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "10.1.1.42",
        "203.0.113.9",
        "1234",
        "fe80::1",
        "-a",
        "a-",
        "a..b",
        "a_b",
        "a b",
        "x" * 65,
        "x" * 64,
        "a/b",
        "é",
        "localhost",
        "<html>",
        "a\nb",
        "02:00:4c:9f:00:05",
        ".",
    ],
)
def test_bad_hostnames(name: str) -> None:
    """Addresses, long names and what RFC 1123 forbids are refused (field/cloudstack#edge-19, #edge-21)."""
    with pytest.raises(Malformed):
        validation.hostname(name)


def test_empty_hostname_is_absent() -> None:
    """An empty value means that there is none (field/cloudstack#edge-16)."""
    with pytest.raises(Absent):
        validation.hostname(" \n")


def test_instance_ids() -> None:
    """UUIDs in any case and the old instance names are ids; nothing else is (field/cloudstack#edge-22)."""
    assert (
        validation.instance_id("3F0C9A52-7c1e-4a55-9f0e-6d1b2c3d4e5f\n")
        == "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f"
    )
    assert validation.instance_id("i-2-3-VM") == "i-2-3-VM"
    for text in (
        "",
        "web01",
        "3f0c9a52",
        "<html>",
        "../../etc",
        "i-2-VM",
        "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f/x",
    ):
        with pytest.raises(ProbeError):
            validation.instance_id(text)


def test_keys_of_every_kind_survive() -> None:
    """Options, comments with blanks, sk- and certificate types are kept to the letter."""
    plain = make_key(1, "a comment with blanks")
    options = f'command="echo \\"hi there\\"",no-pty,from="10.0.0.0/8" {make_key(2)}'
    import base64

    kind = b"sk-ssh-ed25519@openssh.com"
    parts = [kind, b"\1" * 32, b"ssh:"]
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    hardware = f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()} yubi"
    kind = b"ssh-ed25519-cert-v01@openssh.com"
    blob = len(kind).to_bytes(4, "big") + kind + bytes(300)
    certificate = f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(blob).decode()}"
    text = "\r\n".join([plain, "", options, hardware, "# a comment", certificate, plain])
    assert validation.ssh_keys(text.encode()) == ((plain, options, hardware, certificate), ())


@pytest.mark.parametrize(
    "line",
    [
        b"<html><head><title>404 Not Found</title>",
        b"ssh-rsa",
        b"ssh-rsa notbase64!!",
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQ== cut",
        make_key(1).replace("ssh-ed25519 ", "ssh-rsa ").encode(),
        b"ssh-foo AAAA",
        b"root:x:0:0",
        make_key(1)[:60].encode(),
        make_key(1, "caf\xe9").encode("latin-1"),
        make_key(1, "\x1b[2J").encode(),
        make_key(1, "a\x85b").encode(),
        make_key(1, "nul\0").encode(),
        b"\xef\xbb\xbf" + make_key(1).encode(),
        make_key(1).encode("utf-16-le"),
    ],
)
def test_lines_that_are_no_keys(line: bytes) -> None:
    """HTML, cut blobs, bytes that are no text and a BOM cost their own line (field/cloudstack#edge-52)."""
    keys, reasons = validation.ssh_keys(b"\n" + line + b"\r\n" + make_key(2).encode() + b"\n")
    assert keys == (make_key(2),)
    assert len(reasons) == 1
    assert reasons[0].startswith("line 2: ") and reasons[0].isprintable()


def test_more_keys_than_can_be_are_said() -> None:
    """What is left out is a reason, so that the set is not taken for whole."""
    lines = [make_key(number) for number in range(validation.SSH_KEYS_LIMIT + 1)]
    keys, reasons = validation.ssh_keys("\n".join(lines).encode())
    assert keys == tuple(lines[:-1])
    assert reasons == ("line 1001: more than 1000 keys, the rest is left out",)


@given(st.binary(max_size=300))
def test_ssh_keys_is_total(raw: bytes) -> None:
    """Whatever the bytes, every line that is returned is a key by the same rules."""
    keys, _reasons = validation.ssh_keys(raw)
    assert validation.ssh_keys("\n".join(keys).encode()) == (keys, ())


@given(st.integers(min_value=0, max_value=len(make_key(9)) - 1))
def test_a_cut_key_is_no_key_or_the_same_key(length: int) -> None:
    """Cutting a line anywhere never yields another key."""
    whole = validation.key_identity(make_key(9))
    assert validation.key_identity(make_key(9)[:length]) in (None, whole)


@pytest.mark.parametrize(
    "name",
    [
        "service-offering",
        "tier",
        "my_key",
        "A.b",
        "key 1",
        "x" * 127,
        "größe",
        "a(b)",
        "$HOME",
        "中",
        "_",
        "a&b",
    ],
)
def test_metadata_keys(name: str) -> None:
    """Names as CloudStack takes them may be asked for."""
    assert validation.metadata_key(name)


@pytest.mark.parametrize(
    "name",
    [
        *("../../etc/passwd", "a/b", "..", ".hidden", "", "a\nb", "a\0b", "x" * 200, "a..b", "-x", " a"),
        *("q?x", "%2e", "a#b", "a\\b", "a\u202eb"),
    ],
)
def test_hostile_metadata_keys(name: str) -> None:
    """Paths and odd characters are never asked for (field/cloudstack#edge-24)."""
    assert not validation.metadata_key(name)


def test_metadata_values() -> None:
    """Other encodings and control characters are no values; markup, tabs and line ends are."""
    for text in ("Größe\tS\n", "<h1>Hi</h1>", "<html>", "a\r\nb"):
        assert validation.metadata_value(text.encode()) == text
    for raw in (b"\xff", b"a\x1b[2J", b"a\0", b"x" * 70000, "a\u0085".encode()):
        with pytest.raises(Malformed):
            validation.metadata_value(raw)


def test_addresses() -> None:
    """Dotted quads only: a MAC where an address should be is none (field/cloudstack#edge-20)."""
    assert validation.address("10.1.1.042") == "10.1.1.42"
    for text in ("02:00:4c:9f:00:05", "10.1.1", "10.1.1.256", "1.2.3.4.5", "a.b.c.d", ""):
        assert validation.address(text) is None
    assert validation.is_mac("02:00:4c:9f:00:05")


def test_excerpt_is_one_safe_line() -> None:
    """Text of unknown origin is shown without line ends, escapes or length."""
    shown = validation.excerpt("a\n\x1b[31m" + "é" * 100)
    assert len(shown) <= 42 and shown.isprintable() and shown.isascii()


@pytest.mark.parametrize(
    "name", ["password-checksum", "vm-password", "VM_Password_md5checksum", "a/password"]
)
def test_keys_that_give_a_password_away(name: str) -> None:
    """The network extension's, a drive's, and any spelling of them, in a directory, too."""
    assert validation.is_secret_key(name)
    assert not validation.is_secret_key("db_password") and not validation.is_secret_key("vm-id")
