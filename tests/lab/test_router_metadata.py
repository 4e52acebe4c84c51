"""The metadata tree: which keys are asked for, which values are believed, what is said of the rest."""

from __future__ import annotations

import http.server
import time
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.replace_fields import replace

from csagent.errors import Absent, Malformed, ProbeError
from csagent.lab.cloud import Cloud
from csagent.lab.drive import escape
from csagent.lab.router import LabRouter
from csagent.model import Candidate, Platform, Reading
from csagent.sources.router import client, listing, metadata
from csagent.sources.router.http import Answer
from csagent.system.seams import Clock, System

Read = Callable[..., Reading]
HOUR = 3600.0

pytestmark = pytest.mark.usefixtures("unhurried")
KEY = Cloud().ssh_keys[0]


@pytest.fixture
def read_lab(live: System, candidate: Callable[..., Candidate]) -> Read:
    """Start a lab router of a kind and read it once."""

    def read(
        cloud: Cloud, kind: Any = LabRouter, clock: Clock = live.clock, **fields: Any
    ) -> Tuple[Reading, LabRouter]:
        with kind(cloud, **fields) as lab:
            system = live._replace(clock=clock)
            deadline = time.monotonic() + HOUR
            answer = client.look(client.Question(system, [candidate(lab)], Platform(), deadline))
            return answer.readings[0], lab

    return read


def reasons(reading: Reading) -> Dict[str, str]:
    return {refusal.datum: refusal.reason for refusal in reading.refusals}


class Listing(LabRouter):
    """Lists what it is told to list."""

    names = b""

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        return (200, self.names) if path == "/latest/meta-data/" else super().page(path, source)


def test_hostile_key_names_are_never_requested(read_lab: Read) -> None:
    """Paths, control characters and overlong names are recorded, and not one byte of them is sent."""

    class Hostile(Listing):
        names = (
            b"../../etc/passwd\nrole\n..\na/b\nb\x07ell\n/abs\nsp ace\nq?x=y\n%2e%2e\n\xff\xfe\n"
            + b"x" * 256
            + b"\nok\r\n\x1b[2J\n"
        )

    reading, lab = read_lab(Cloud(metadata={"role": "web", "ok": "1", "sp ace": "2"}), Hostile)
    asked = {request.what for request in lab.requests if request.server == "metadata"}
    assert not any(
        mark in path for path in asked for mark in ("..", "passwd", "\x07", "?", "%", "xxx", "\x1b", "abs")
    )
    assert (reading.metadata["role"], reading.metadata["ok"], reading.metadata["sp ace"]) == ("web", "1", "2")
    refused = [refusal.reason for refusal in reading.refusals]
    assert len(refused) >= 8
    assert any("../../etc/passwd" in reason for reason in refused)
    assert all(reason.isprintable() for reason in refused)


class Broken(LabRouter):
    """All below /latest fails, for another VM's variable; each VM's own directory is there beside it."""

    mine = "127.0.0.1"
    works: Tuple[str, ...] = ()
    own_id = b""

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        if path.startswith("/latest"):
            return super().page(path, source) if path in self.works else (500, b"")
        if self.own_id and path.endswith("/instance-id"):
            return 200, self.own_id
        for base, latest in (("/metadata/", "/latest/meta-data/"), ("/userdata/", "/latest/")):
            if path.startswith(base):
                address, _, key = path[len(base) :].partition("/")
                if address != self.mine or source != self.mine:
                    return 403, b""
                return super().page(latest + ("" if key == "meta-data" else key), source)
        return 404, b""


@pytest.mark.parametrize("source", [None, "127.0.0.1"])
def test_where_everything_latest_fails_the_vms_own_directory_is_read(
    source: Optional[str], live: System, candidate: Callable[..., Candidate]
) -> None:
    """All of it is there, and the place says what is broken and that it is the router's."""
    cloud = Cloud(user_data=b"#!/bin/sh\n", metadata={"role": "web"}, password="EXAMPLE")
    with Broken(cloud) as lab:
        question = client.Question(live, [candidate(lab, source=source)], Platform(), time.monotonic() + 8)
        answer = client.look(question)
    (reading,) = answer.readings
    assert (reading.instance_id, reading.metadata["role"]) == (cloud.instance_id, "web")
    assert (reading.ssh_keys, reading.user_data) == (cloud.ssh_keys, b"#!/bin/sh\n")
    assert reading.password.state == "offered" and reading.complete
    place = answer.places[0]
    assert place.outcome == "partial" and "HTTP 500" in place.detail and "own directory" in place.detail


def test_anothers_directory_is_not_ours(live: System, candidate: Callable[..., Candidate]) -> None:
    """Where that fails too, what /latest said is the reason."""
    kind = type("Others", (Broken,), {"mine": "127.0.0.77"})
    with kind(Cloud()) as lab:
        answer = client.look(client.Question(live, [candidate(lab)], Platform(), time.monotonic() + 4))
    assert answer.readings == ()
    assert (answer.places[0].outcome, answer.places[0].detail) == ("failed", "HTTP 500")


@pytest.mark.parametrize(
    "works", [("/latest/meta-data/instance-id",), ("/latest/meta-data/instance-id", "/latest/meta-data/")]
)
def test_what_alone_fails_is_read_from_the_vms_own_directory(read_lab: Read, works: Tuple[str, ...]) -> None:
    """Where the instance id, or the listing too, comes from /latest, and all else there fails."""
    kind = type("Half", (Broken,), {"works": works})
    cloud = Cloud(metadata={"role": "web"}, ssh_keys=(KEY,))
    reading, _ = read_lab(cloud, kind)
    assert (reading.metadata["role"], reading.metadata["local-hostname"]) == ("web", cloud.hostname)
    assert (reading.ssh_keys, reading.refusals, reading.complete) == ((KEY,), (), True)
    reading, _ = read_lab(replace(cloud, user_data=b"#!/bin/sh\n"), kind)
    assert reading.user_data == b"#!/bin/sh\n"


def test_a_directory_with_another_id_is_not_ours(read_lab: Read) -> None:
    """What failed stays unknown."""
    another = b"aaaaaaaa-7c1e-4a55-9f0e-6d1b2c3d4e5f"
    kind = type("Half", (Broken,), {"works": ("/latest/meta-data/instance-id",), "own_id": another})
    reading, _ = read_lab(Cloud(ssh_keys=(KEY,)), kind)
    assert (reading.ssh_keys, reasons(reading)["public-keys"]) == ((), "HTTP 500")
    assert not reading.complete


def test_not_everything_needs_to_fail(live: System, candidate: Callable[..., Candidate]) -> None:
    """Where a path is missing and others fail, it is not said that all of them do."""

    class Missing(Broken):
        def page(self, path: str, source: str) -> Tuple[int, bytes]:
            return (404, b"") if path == "/latest/meta-data/instance-id" else super().page(path, source)

    with Missing(Cloud()) as lab:
        answer = client.look(client.Question(live, [candidate(lab)], Platform(), time.monotonic() + 8))
    place = answer.places[0]
    assert place.outcome == "partial" and "HTTP 500" in place.detail and "everything" not in place.detail


def test_keys_are_found_though_they_are_not_listed(read_lab: Read) -> None:
    """A well-known key that is not listed (field/cloudstack#2.3) is read; a custom one cannot be known."""
    cloud = Cloud(metadata={"my-cloud-name": "a", "cloud-name": "b", "host": "c"})
    reading, lab = read_lab(cloud)
    assert (
        "cloud-name\n"
        not in lab.page("/latest/meta-data/", "127.0.0.1")[1]
        .decode()
        .replace("my-", "")[: -len("my-cloud-name\n")]
    )
    assert reading.metadata["cloud-name"] == "b"
    assert "host" not in reading.metadata


def test_a_listed_key_that_is_gone_is_a_reason(read_lab: Read) -> None:
    """A deleted key stays in the listing (field/cloudstack#2.3): recorded, and the reading is complete."""

    class Gone(Listing):
        names = b"gone\nrole\n"

    reading, _ = read_lab(Cloud(metadata={"role": "web"}), Gone)
    assert reasons(reading) == {"gone": "listed, but HTTP 404"}
    assert reading.complete and reading.metadata["role"] == "web"


@pytest.mark.parametrize("names", [b"<html><body>nothing here</body></html>", b"", b"\n\n\r\n", b"x" * 70000])
def test_without_a_listing_the_known_keys_are_read(read_lab: Read, names: bytes) -> None:
    """A page, nothing, or far too much where the listing should be costs only the custom keys."""
    kind = type("Odd", (Listing,), {"names": names})
    reading, _ = read_lab(Cloud(metadata={"availability-zone": "zone-9"}), kind)
    assert reading.metadata["availability-zone"] == "zone-9"
    assert bool(reading.refusals) is (len(names) > 10)


def raw(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (raw(b"\xff\xfe"), "not UTF-8"),
        ("a\0b", "control characters"),
        ("a\x1b[2Jb", "control characters"),
        ("x" * 65537, "more than 65536 bytes"),
    ],
)
def test_a_value_that_is_none_costs_only_itself(read_lab: Read, value: str, reason: str) -> None:
    """Not UTF-8, control characters, too long: recorded with its key; the others are used."""
    reading, _ = read_lab(Cloud(metadata={"role": value, "rank": "7"}))
    assert "role" not in reading.metadata
    assert reading.metadata["rank"] == "7"
    assert reason in reasons(reading)["role"]


@pytest.mark.parametrize("name", ["10.1.1.1", "-bad-", "a b", "x" * 65, "localhost"])
def test_a_host_name_that_cannot_be_set_is_refused(read_lab: Read, name: str) -> None:
    """local-hostname is checked where it is read (field/cloudstack#edge-21)."""
    reading, _ = read_lab(Cloud(hostname=name))
    assert "local-hostname" not in reading.metadata
    assert "local-hostname" in reasons(reading)


def test_empty_values_are_no_values(read_lab: Read) -> None:
    """200 with an empty body is how the VR says null (field/cloudstack#2.5): not a value and not a fault."""
    reading, _ = read_lab(Cloud(ssh_keys=(), metadata={"role": "", "service-offering": ""}))
    assert set(reading.metadata) == {"instance-id", "local-hostname", "vm-id"}
    assert (reading.ssh_keys, reading.refusals, reading.complete) == ((), (), True)
    assert not reading.user_data


def test_names_are_unescaped_and_custom_values_are_not(read_lab: Read) -> None:
    r"""The VR writes zone and offering with \uXXXX, surrogate pairs included; custom keys are verbatim."""
    zone = "Zürich \U0001f3d4"
    reading, lab = read_lab(Cloud(metadata={"availability-zone": zone, "role": "a\\u00FCb"}))
    assert b"\\u00FC" in lab.page("/latest/availability-zone", "127.0.0.1")[1]
    assert reading.metadata["availability-zone"] == zone
    assert reading.metadata["role"] == "a\\u00FCb"


@pytest.mark.parametrize("value", ["a\\uD83Cb", "a\\u0007b", "a\\uDF54\\uD83C"])
def test_escapes_that_make_no_text_are_refused(value: str) -> None:
    """Half a surrogate pair or an escaped control character is no name."""
    with pytest.raises(Malformed):
        listing.parse_value("service-offering", value.encode())


def test_both_spellings_of_the_hypervisor_are_one_key(read_lab: Read) -> None:
    """hypervisor-hostname (field/cloudstack#2.8) is kept as hypervisor-host-name, which wins over it."""
    reading, _ = read_lab(Cloud(metadata={"hypervisor-host-name": "kvm-7"}), style="directory")
    assert reading.metadata["hypervisor-host-name"] == "kvm-7"
    reading, _ = read_lab(Cloud(metadata={"hypervisor-host-name": "a", "hypervisor-hostname": "b"}))
    assert reading.metadata["hypervisor-host-name"] == "a"
    assert "hypervisor-hostname" not in reading.metadata


def test_directories_are_read_one_level_deep(read_lab: Read) -> None:
    """EC2-style trees: children of a directory, public keys in one file each (field/cloudstack#2.8)."""
    second = KEY.replace("RVhB", "RVhC")
    cloud = Cloud(ssh_keys=(KEY, second), metadata={"placement/zone": "z1", "placement/deep/er": "no"})
    reading, lab = read_lab(cloud, style="directory")
    assert reading.ssh_keys == (KEY, second)
    assert reading.metadata["placement/zone"] == "z1"
    assert not any("deep" in request.what for request in lab.requests)
    assert reading.complete


def test_key_numbers_in_a_flat_file_lead_to_the_keys(read_lab: Read) -> None:
    """public-keys listed without a slash, whose body is EC2's list of names."""

    class Ec2(LabRouter):
        def page(self, path: str, source: str) -> Tuple[int, bytes]:
            if path == "/latest/meta-data/public-keys":
                return 200, b"0=my-key\n"
            return super().page(path, source)

    reading, _ = read_lab(Cloud(metadata={"public-keys/0/openssh-key": KEY}), Ec2)
    assert reading.ssh_keys == (KEY,)


class Rewriting(LabRouter):
    """Is rewriting the file of public keys when it is first asked for it."""

    cut = 30
    times = 1

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        status, body = super().page(path, source)
        if path.endswith("/public-keys") and self.times:
            self.times -= 1
            return status, body[: self.cut]
        return status, body


def test_cut_public_keys_are_asked_for_again(read_lab: Read) -> None:
    """A line caught in mid-write (field/cloudstack#2.6): the second answer is used, without a complaint."""
    reading, _ = read_lab(Cloud(), Rewriting)
    assert (reading.ssh_keys, reading.refusals) == ((KEY,), ())


def test_public_keys_that_stay_cut_are_a_reason(read_lab: Read) -> None:
    """The whole keys beside the cut one are used; it is asked for twice, not for ever."""
    second = KEY.replace("RVhB", "RVhC")
    kind = type("Broken", (Rewriting,), {"cut": len(KEY) + 40, "times": 9})
    reading, lab = read_lab(Cloud(ssh_keys=(KEY, second)), kind)
    assert reading.ssh_keys == (KEY,)
    assert "public-keys" in reasons(reading)
    assert reading.doubts["ssh_keys"].startswith("line 2: ")
    assert sum(request.what.endswith("/public-keys") for request in lab.requests) == 2


class Writing(LabRouter):
    """Truncates the files and then writes them, a piece at each request, as on a router under load."""

    pieces: Tuple[int, ...] = (0,)  # how many bytes are there at the first requests
    young = True

    def start(self) -> None:
        self.asked: Dict[str, int] = {}
        if self.young:
            self.written = time.time() + 60  # it stays so for the whole test
        super().start()

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        status, body = super().page(path, source)
        number = self.asked[path] = self.asked.get(path, -1) + 1
        if path.endswith(("/public-keys", "/local-hostname", "/user-data")) and number < len(self.pieces):
            return status, body[: self.pieces[number]]
        return status, body


FULL = Cloud(user_data=b"#!/bin/sh\n" + b"echo EXAMPLE\n" * 40)


@pytest.mark.parametrize(
    ("pieces", "young"),
    [((0,), True), ((0, 0), True), ((100,), True), ((3, 9), True), ((0,), False)],
)
def test_what_is_just_being_written_is_asked_for_until_two_answers_agree(
    read_lab: Read, pieces: Tuple[int, ...], young: bool
) -> None:
    """Empty and cut bodies of young files are not taken; an empty old one is asked for once more."""
    kind = type("Kind", (Writing,), {"pieces": pieces, "young": young})
    reading, _ = read_lab(FULL, kind)
    assert (reading.metadata["local-hostname"], reading.ssh_keys) == (FULL.hostname, FULL.ssh_keys)
    assert reading.user_data == FULL.user_data
    assert (reading.refusals, reading.doubts, reading.complete) == ((), {}, True)


def test_a_value_that_never_settles_is_in_doubt(read_lab: Read) -> None:
    """Another body at each look: it is used, told as not whole, and a later look may find more."""
    kind = type("Kind", (Writing,), {"pieces": tuple(range(20, 60))})
    reading, _ = read_lab(FULL, kind)
    assert reading.doubts["user_data"] == metadata.RESTLESS
    assert not reading.complete


def test_an_empty_file_that_is_old_costs_no_pause(read_lab: Read) -> None:
    """The usual state of a VM without user-data or keys: one more request each, at once."""

    class Sleepless(Clock):
        def sleep(self, seconds: float) -> None:
            raise AssertionError("a pause")

    reading, lab = read_lab(Cloud(ssh_keys=()), clock=Sleepless())
    assert (reading.ssh_keys, reading.user_data, reading.complete, reading.doubts) == ((), b"", True, {})
    asked = [request.what for request in lab.requests]
    assert asked.count("/latest/user-data") == 2


class Unframed(LabRouter):
    """Ends its bodies by closing the connection."""

    def start(self) -> None:
        super().start()
        handler = self._servers[0].RequestHandlerClass
        self._servers[0].RequestHandlerClass = type("Closing", (handler,), {"send_header": closing_header})


def closing_header(self: Any, name: str, value: str) -> None:
    """`http.server`'s, without a length."""
    if name != "Content-Length":
        http.server.BaseHTTPRequestHandler.send_header(self, name, value)
    else:
        http.server.BaseHTTPRequestHandler.send_header(self, "Connection", "close")


def test_what_only_the_close_ends_is_in_doubt(read_lab: Read) -> None:
    """Without a length or chunks nobody can tell whether it is all; it is used, and told."""
    reading, _ = read_lab(FULL, Unframed)
    assert (reading.metadata["local-hostname"], reading.ssh_keys) == (FULL.hostname, FULL.ssh_keys)
    assert reading.user_data == FULL.user_data
    assert {name: reading.doubts[name] for name in ("hostname", "ssh_keys", "user_data")} == dict.fromkeys(
        ("hostname", "ssh_keys", "user_data"), metadata.UNFRAMED
    )


def test_lines_that_are_no_text_cost_themselves(read_lab: Read) -> None:
    """One comment in Latin-1: the key beside it is there, and the line is named."""

    class Latin(LabRouter):
        def page(self, path: str, source: str) -> Tuple[int, bytes]:
            status, body = super().page(path, source)
            return status, body.replace(b"me@caf", b"me@caf\xe9")

    second = KEY.replace("RVhB", "RVhC").rsplit(" ", 1)[0] + " me@caf"
    reading, _ = read_lab(Cloud(ssh_keys=(KEY, second)), Latin)
    assert reading.ssh_keys == (KEY,)
    assert reading.doubts == {"ssh_keys": "line 2: not UTF-8"}


def test_doubt_is_not_lost_among_many_refusals(read_lab: Read) -> None:
    """A listing that earns more refusals than are kept does not hide that the keys are not whole."""
    names = {f"bad{number}-": "x\0" for number in range(300)}
    reading, _ = read_lab(Cloud(ssh_keys=(KEY, "cut"), metadata=names))
    assert len(reading.refusals) <= 65
    assert reading.doubts["ssh_keys"].startswith("line 2: ")


def test_html_is_never_a_key(read_lab: Read) -> None:
    """Status 200 with a page where keys should be gives no keys (field/cloudstack#edge-52)."""
    reading, _ = read_lab(Cloud(ssh_keys=("<html><body>", "Not found", "</body></html>")))
    assert reading.ssh_keys == ()
    assert any("HTML" in refusal.reason for refusal in reading.refusals)


def test_user_data_is_raw_bytes_with_a_cap(read_lab: Read) -> None:
    """Every byte arrives as it was; more than 1 MiB is a reason, and the rest of the reading stands."""
    whole = bytes(range(256)) * 4096
    assert read_lab(Cloud(user_data=whole))[0].user_data == whole
    reading, _ = read_lab(Cloud(user_data=whole + b"x"))
    assert reading.user_data is None
    assert reasons(reading) == {"user-data": "more than 1048576 bytes"}
    assert reading.metadata["local-hostname"] == "vm-1"


def test_too_many_keys_and_bytes_are_cut(read_lab: Read) -> None:
    """1,000 keys and 2 MiB are read; what is over is a reason, and the well-known keys come first."""
    reading, _ = read_lab(Cloud(metadata={f"k{number:04}-": "v" for number in range(1100)}))
    assert 980 <= len(reading.metadata) <= 1020
    assert "more than 1000 keys" in reasons(reading)["metadata"]
    reading, _ = read_lab(Cloud(metadata={f"big{number:02}-": "v" * 60000 for number in range(60)}))
    total = sum(map(len, reading.metadata.values()))
    assert (2 << 20) <= total <= (2 << 20) + 20 * 60000
    assert reading.metadata["local-hostname"] == "vm-1"
    assert any("2097152 bytes" in refusal.reason for refusal in reading.refusals)
    assert len(reading.refusals) <= 65


def test_trouble_and_absence_differ() -> None:
    """A key that fails with 503 makes the reading incomplete; one that is not there does not."""
    answers: Mapping[str, Any] = {
        "/latest/meta-data/vm-id": ProbeError("HTTP 503"),
        "/latest/meta-data/local-hostname": Answer(b"web-01\n"),
    }

    def get(path: str, _cap: int) -> Answer:
        found = answers.get(path, Absent("HTTP 404"))
        if isinstance(found, ProbeError):
            raise found
        return found

    reader = metadata.MetadataReader(get, "router x", time.monotonic() + HOUR, Clock())
    tree = reader.read("i-2-3-VM", Absent("HTTP 404"), legacy=False)
    assert tree.metadata == {"instance-id": "i-2-3-VM", "local-hostname": "web-01"}
    assert not tree.complete
    assert {one.datum: (one.reason, one.answered) for one in tree.refusals} == {
        "listing": ("HTTP 404", True),
        "vm-id": ("HTTP 503", False),
    }


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_listing_gives_askable_names_and_printable_reasons(body: bytes) -> None:
    """Whatever the bytes, what may be asked for is a plain name, and each reason is one line."""
    found = listing.parse_listing(body)
    for name in (*found.keys, *found.directories):
        assert "/" not in name and ".." not in name and name.isprintable() and 0 < len(name) < 256
    for problem in found.problems:
        assert problem.isprintable()


@given(st.text(max_size=60))
def test_unescape_undoes_what_the_management_server_does(text: str) -> None:
    """Any name that is text survives the escaping of CloudStack, unless it has escapes of its own."""
    if "\\" not in text and text.encode("utf-8", "replace").decode() == text:
        assert listing.unescape(escape(text)) == text


@settings(max_examples=200)
@given(st.sampled_from(("local-hostname", "availability-zone", "role", "vm-id")), st.binary(max_size=80))
def test_any_value_is_clean_text_or_a_reason(key: str, body: bytes) -> None:
    """No bytes lead to anything but encodable text or a `ProbeError`."""
    try:
        text = listing.parse_value(key, body)
    except ProbeError as error:
        text = str(error)
    assert "\0" not in text
    text.encode("utf-8")
