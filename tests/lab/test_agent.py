"""The whole agent from its command line, on scratch trees against real servers and real drives."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from support.command_line import PATIENCE, REPOSITORY, Guest, data, make_drive, places
from support.replace_fields import replace
from support.samples import CLOUD, INSTANCE, PASSWORD, make_key

from csagent.lab import drive
from csagent.lab.router import LabRouter

WAIT = 8.0  # seconds to wait where nobody answers; a child needs a twentieth of that to have asked
NEVER = "36000"  # seconds; who sits them out is killed long before (PATIENCE)


@pytest.fixture
def guest(tree: Path) -> Guest:
    return Guest(tree)


# --- the main job ---


def test_first_boot_second_boot_and_reset(guest: Guest, router: LabRouter) -> None:
    """All is set and acknowledged once; again changes nothing; a reset changes only what was reset."""
    first = guest.run("apply", "--json", *places(router))
    assert first.code == 0, first
    assert data(first) == dict.fromkeys(("hostname", "ssh_keys", "password", "user_data"), "applied")
    assert first.json["data"]["password"]["acknowledged"] == "yes"
    assert guest.text("etc/hostname") == "web01\n"
    assert guest.password_is(PASSWORD)
    assert make_key(1) in guest.authorized() and make_key(2) in guest.authorized()
    assert len(router.acknowledged) == 1

    before = guest.state()
    second = guest.run("apply", "--json", *places(router))
    assert second.code == 0 and data(second)["password"] == "absent"
    assert guest.state() == before and len(router.acknowledged) == 1

    with (guest.root / "root/.ssh/authorized_keys").open("a") as stream:
        stream.write(make_key(9, "owner") + "\n")
    router.change(password="EXAMPLE-reset", ssh_keys=(make_key(3),))
    third = guest.run("apply", "--json", *places(router))
    assert data(third) == {
        "hostname": "unchanged",
        "ssh_keys": "applied",
        "password": "applied",
        "user_data": "unchanged",
    }
    assert guest.password_is("EXAMPLE-reset")
    keys = guest.authorized()
    assert make_key(3) in keys and make_key(9, "owner") in keys
    assert make_key(1) not in keys and make_key(2) not in keys


def test_the_owners_choices_stay(guest: Guest, router: LabRouter) -> None:
    """A hostname, a password and a removed key of the owner's are not put back while the source stays."""
    guest.run("apply", *places(router))
    (guest.root / "etc/hostname").write_text("mine\n")
    (guest.root / "etc/shadow").write_text("root:$6$x$y:1:0:99999:7:::\n")
    (guest.root / "root/.ssh/authorized_keys").write_text("# all gone\n")
    done = guest.run("apply", *places(router))
    assert done.code == 0
    assert guest.text("etc/hostname") == "mine\n"
    assert guest.text("etc/shadow").startswith("root:$6$x$y:")
    assert guest.authorized() == "# all gone\n"


def test_acknowledgement_comes_after_the_change(guest: Guest, router: LabRouter) -> None:
    """When the router is told, the shadow entry is the new password's and memory is on the disk."""
    seen: List[bool] = []

    def log(line: str) -> None:
        if '"saved_password"' in line or "saved_password" in line:
            remembered = list((guest.root / "var/lib/csagent/instances").glob("*.json"))
            seen.append(guest.password_is(PASSWORD) and len(remembered) == 1)

    router._log = log
    guest.run("apply", *places(router))
    assert seen and all(seen)


def test_fetch_and_plan_acknowledge_and_change_nothing(guest: Guest, router: LabRouter) -> None:
    """They read; the password stays offered and the tree stays as it was."""
    before = sorted(str(path) for path in guest.root.rglob("*"))
    assert guest.run("fetch", *places(router)).code == 0
    assert guest.run("plan", *places(router)).code == 0
    assert router.acknowledged == []
    assert {request.what for request in router.requests if request.server == "password"} == {
        "send_my_password"
    }
    assert sorted(str(path) for path in guest.root.rglob("*")) == before


def lose_the_acknowledgement(guest: Guest, router: LabRouter) -> None:
    """As if it had not arrived: the router offers the password still, and memory has no confirmation."""
    router._done.clear()
    for path in (guest.root / "var/lib/csagent/instances").glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "forgotten_by": {}}))


def test_lost_acknowledgement_is_repeated_without_setting(guest: Guest, router: LabRouter) -> None:
    """The newest password offered again is acknowledged and not set: the owner may have changed it (36)."""
    guest.run("apply", *places(router))
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    lose_the_acknowledgement(guest, router)
    done = guest.run("apply", "--json", *places(router))
    assert data(done)["password"] == "unchanged" and done.json["data"]["password"]["acknowledged"] == "yes"
    assert guest.text("etc/shadow").startswith("root:$6$owner$x") and len(router.acknowledged) == 2


@pytest.mark.parametrize("lost", [False, True])
def test_a_reset_to_the_same_password_is_a_reset(guest: Guest, router: LabRouter, lost: bool) -> None:
    """Offered again by the router that had forgotten it, as it confirmed or said at a later pass."""
    guest.run("apply", *places(router))
    if lost:
        lose_the_acknowledgement(guest, router)
        router._done.add(("127.0.0.1", PASSWORD))
        assert guest.run("apply", *places(router)).code == 0
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    router._done.clear()  # the administrator resets to the same one
    done = guest.run("apply", "--json", *places(router))
    assert data(done)["password"] == "applied" and guest.password_is(PASSWORD)
    assert len(router.acknowledged) == 2
    # And the owner may change it again: nothing is offered any more.
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    guest.run("apply", *places(router))
    assert guest.text("etc/shadow").startswith("root:$6$owner$x")


def test_a_router_that_confirms_and_does_not_forget(guest: Guest, servers: Any) -> None:
    """A script whose disk is full offers the password for ever: that is no reset at every pass."""

    class Full(Set[Any]):
        def add(self, element: object) -> None:
            """There is no room for it."""

    router = servers.lab(CLOUD, shape="socat")
    router._done = Full()
    first = guest.run("apply", "--json", *places(router))
    assert first.code == 3 and data(first)["password"] == "applied" and guest.password_is(PASSWORD)
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    again = guest.run("apply", "--json", *places(router))
    assert data(again)["password"] == "unchanged" and again.json["data"]["password"]["acknowledged"] == "no"
    assert guest.text("etc/shadow").startswith("root:$6$owner$x")


def test_stale_password_is_refused_until_forced(guest: Guest, router: LabRouter) -> None:
    """An older password after a failover is not set or acknowledged; --force-password sets it (37, 38)."""
    guest.run("apply", *places(router))
    router.change(password="EXAMPLE-second")
    guest.run("apply", *places(router))
    router.change(password=PASSWORD)
    acknowledged = len(router.acknowledged)
    done = guest.run("apply", "--json", *places(router))
    assert done.code == 0 and data(done)["password"] == "refused"
    assert guest.password_is("EXAMPLE-second") and len(router.acknowledged) == acknowledged
    assert guest.run("apply", "--force-password", *places(router)).code == 0
    assert guest.password_is(PASSWORD) and len(router.acknowledged) == acknowledged + 1


def test_reset_between_fetch_and_acknowledgement(guest: Guest, router: LabRouter) -> None:
    """One that arrives meanwhile is not acknowledged unseen, but set next (field/cloudstack#edge-40)."""
    asked = []

    def log(line: str) -> None:
        if "send_my_password" in line:
            asked.append(line)
            if len(asked) == 1:
                router.change(password="EXAMPLE-meanwhile")

    router._log = log
    assert guest.run("apply", *places(router)).code == 0
    assert guest.password_is("EXAMPLE-meanwhile") and len(router.acknowledged) == 1


def test_markers_of_the_old_scripts(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """A drive's password that an old script has set is not set again (45); a router's is."""
    marker = hashlib.md5(PASSWORD.encode() + b"\n").hexdigest()
    (guest.root / "root/.password.md5").write_text(marker + "\n")
    image = make_drive(tmp_path / "drive.iso")
    done = guest.run("apply", "--json", "--drive", str(image))
    assert data(done)["password"] == "unchanged" and guest.text("etc/shadow").startswith("root:*:")
    (guest.root / "root/.password.md5").unlink()
    assert data(guest.run("apply", "--json", "--drive", str(image)))["password"] == "unchanged"

    shutil.rmtree(guest.root / "var/lib/csagent")
    (guest.root / "root/.password.md5").write_text(marker + "\n")
    done = guest.run("apply", "--json", *places(router))
    assert data(done)["password"] == "applied" and guest.password_is(PASSWORD)
    assert len(router.acknowledged) == 1


def test_another_account(guest: Guest, router: LabRouter) -> None:
    """The setting user says who gets the password and the keys."""
    (guest.root / "etc/csagent").mkdir()
    (guest.root / "etc/csagent/csagent.yaml").write_text("user: alice\n")
    assert guest.run("apply", *places(router)).code == 0
    assert guest.text("etc/shadow").startswith("root:*:")
    assert make_key(1) in guest.text("home/alice/.ssh/authorized_keys")
    assert not (guest.root / "root/.ssh").exists()


def test_settings_turn_things_off(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """hostname, ssh_keys and password set to false are left alone, and status says so."""
    config = tmp_path / "x.yaml"
    config.write_text("hostname: false\nssh_keys: false\npassword: false\n")
    done = guest.run("--config", str(config), "apply", "--json", *places(router))
    assert done.code == 0
    assert [data(done)[datum] for datum in ("hostname", "ssh_keys", "password")] == ["off"] * 3
    assert guest.text("etc/hostname") == "debian\n" and router.acknowledged == []


# --- the drive ---


def test_drive_first_and_second_boot(guest: Guest, tmp_path: Path) -> None:
    """The same from a drive; seen again at each boot, its password is set once (field/cloudstack#edge-42)."""
    image = make_drive(tmp_path / "drive.iso")
    first = guest.run("apply", "--json", "--drive", str(image))
    assert first.code == 0 and set(data(first).values()) == {"applied"}
    assert guest.password_is(PASSWORD) and make_key(2) in guest.authorized()
    before = guest.state()
    second = guest.run("apply", "--json", "--drive", str(image))
    assert second.code == 0 and set(data(second).values()) == {"unchanged"} and guest.state() == before


def test_drive_as_a_directory(guest: Guest, tmp_path: Path) -> None:
    """A mounted or copied drive is read too."""
    drive.build_tree(str(tmp_path / "copy"), drive.files_for(CLOUD))
    done = guest.run("fetch", "--json", "--drive", str(tmp_path / "copy"))
    assert done.code == 0 and done.json["hostname"] == "web01" and len(done.json["ssh_keys"]) == 2


@pytest.mark.parametrize("name", ["vm-password-md5checksum.txt", "vm_password_md5checksum.txt"])
@pytest.mark.parametrize(("digest", "good"), [("right", True), ("short", True), ("wrong", False)])
def test_md5_of_the_drive(guest: Guest, tmp_path: Path, name: str, digest: str, good: bool) -> None:
    """The checksum file is compared as a number, both spellings; a mismatch refuses the password."""
    password = next(
        f"EXAMPLE{number}"
        for number in range(1000)
        if hashlib.md5(f"EXAMPLE{number}".encode()).hexdigest()[0] == "0"
    )
    right = hashlib.md5(password.encode()).hexdigest()
    text = {"right": right, "short": right.lstrip("0"), "wrong": "f" + right[1:]}[digest]
    cloud = replace(CLOUD, password=password)
    files = {f"cloudstack/password/{name}": text.encode()}
    done = guest.run("apply", "--json", "--drive", str(make_drive(tmp_path / "d.iso", cloud, files=files)))
    assert guest.password_is(password) is good
    assert done.code == (0 if good else 3)
    assert data(done)["password"] == ("applied" if good else "refused")
    assert guest.text("etc/hostname") == "web01\n"


def test_both_channels_each_with_a_part(guest: Guest, servers: Any, tmp_path: Path) -> None:
    """Values are merged per datum, the router first, each with where it came from (#4809)."""
    router = servers.lab(replace(CLOUD, password=None, user_data=b"", ssh_keys=()))
    image = make_drive(tmp_path / "d.iso", replace(CLOUD, hostname="other"))
    done = guest.run("fetch", "--json", *places(router), "--drive", str(image))
    came = done.json["provenance"]
    assert done.json["hostname"] == "web01" and came["hostname"].startswith("router")
    assert done.json["password"]["state"] == "offered" and came["password"].startswith("drive")
    assert len(done.json["ssh_keys"]) == 2 and came["ssh_keys"].startswith("drive")
    assert done.json["user_data"]["kind"] == "script"


def test_order_of_trust_is_a_setting(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """With sources [drive, router] the drive's host name wins; leaving one out turns it off."""
    image = make_drive(tmp_path / "d.iso", replace(CLOUD, hostname="fromdrive"))
    both = [*places(router), "--drive", str(image)]
    config = tmp_path / "x.yaml"
    config.write_text("sources: [drive, router]\n")
    assert guest.run("--config", str(config), "fetch", "--json", *both).json["hostname"] == "fromdrive"
    config.write_text("sources: [router]\n")
    done = guest.run("--config", str(config), "fetch", "--json", *places(router))
    assert done.json["hostname"] == "web01" and not any(
        "drive" in one["place"] for one in done.json["places"]
    )
    assert guest.run("--config", str(config), "fetch", *both).code == 2
    assert guest.run("fetch", "--json", *places(router), "--source", "router").json["hostname"] == "web01"


def test_a_router_of_another_instance_is_foreign(guest: Guest, servers: Any, tmp_path: Path) -> None:
    """What a previous owner of the address left on the router is not ours: the drive says who we are (23)."""
    other = servers.lab(
        replace(CLOUD, instance_id="aaaaaaaa-7c1e-4a55-9f0e-6d1b2c3d4e5f", hostname="stranger")
    )
    image = make_drive(tmp_path / "d.iso", replace(CLOUD, hostname="mine", password=None))
    done = guest.run("apply", "--json", *places(other), "--drive", str(image))
    assert done.code == 0 and guest.text("etc/hostname") == "mine\n"
    assert {one["outcome"] for one in done.json["places"] if one["place"].startswith("router")} == {"foreign"}
    assert other.acknowledged == [] and guest.text("etc/shadow").startswith("root:*:")


def test_an_outranked_password_stays_outranked(guest: Guest, servers: Any, tmp_path: Path) -> None:
    """Two passwords: the router's is set, the drive's is stale from then on (field/cloudstack#edge-44)."""
    router = servers.lab(replace(CLOUD, password="EXAMPLE-router"))
    both = [*places(router), "--drive", str(make_drive(tmp_path / "d.iso"))]
    assert guest.run("apply", *both).code == 0 and guest.password_is("EXAMPLE-router")
    again = guest.run("apply", "--json", *both)
    assert data(again)["password"] == "refused" and guest.password_is("EXAMPLE-router")


def test_a_new_password_on_the_drive_beside_the_routers_old_one(
    guest: Guest, servers: Any, tmp_path: Path
) -> None:
    """A rebuilt router offers again what it had confirmed, and the drive a reset: that is set, once."""
    router = servers.lab(replace(CLOUD, password="EXAMPLE-router"))
    assert guest.run("apply", *places(router)).code == 0
    router._done.clear()
    both = [*places(router), "--drive", str(make_drive(tmp_path / "d.iso"))]
    done = guest.run("apply", "--json", *both)
    assert data(done)["password"] == "applied" and guest.password_is(PASSWORD), done
    assert done.json["data"]["password"]["acknowledged"] == "not needed" and len(router.acknowledged) == 1
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    assert data(guest.run("apply", "--json", *both))["password"] == "refused"
    assert guest.text("etc/shadow").startswith("root:$6$owner$x")


def test_a_stale_drive_does_not_undo_a_slow_router(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """What the router outdid on a drive is old news while the router is silent (field/cloudstack#edge-65).

    Without a router at the first boot the drive is all there is, and is applied; so is what it says anew.
    """
    stale = replace(CLOUD, hostname="stale", ssh_keys=(make_key(7),), password=None)
    words = ["--drive", str(make_drive(tmp_path / "d.iso", stale))]
    assert data(guest.run("apply", "--json", *words))["hostname"] == "applied"
    assert data(guest.run("apply", "--json", *places(router), *words))["hostname"] == "applied"
    alone = guest.run("apply", "--json", *words)
    assert {data(alone)[datum] for datum in ("hostname", "ssh_keys")} == {"unchanged"}
    assert guest.text("etc/hostname") == "web01\n" and make_key(7) not in guest.authorized()
    fresh = replace(stale, hostname="fresh", ssh_keys=(make_key(8),))
    words = ["--drive", str(make_drive(tmp_path / "e.iso", fresh))]
    assert data(guest.run("apply", "--json", *words))["hostname"] == "applied"
    assert make_key(8) in guest.authorized() and make_key(1) not in guest.authorized()


def test_grace_for_a_dead_router_beside_a_drive(guest: Guest, servers: Any, tmp_path: Path) -> None:
    """With a drive in place the router gets three seconds, not the whole wait."""
    port = servers.free_port()
    image = make_drive(tmp_path / "d.iso")
    start = time.monotonic()
    done = guest.run("apply", "--router", f"127.0.0.1:{port}", "--drive", str(image), "--wait", NEVER)
    assert done.code == 0 and time.monotonic() - start > 2.5


# --- bad input ---


@pytest.mark.parametrize(
    ("cloud", "datum", "words"),
    [
        ({"hostname": "203.0.113.7"}, "hostname", "address"),
        ({"hostname": "<html>x"}, "hostname", "RFC 1123"),
        ({"hostname": "a\x1b[31mb"}, "hostname", "control"),
        ({"hostname": "x" * 70}, "hostname", "64"),
        ({"password": "two\nlines"}, "password", "several lines"),
        ({"password": "x" * 300}, "password", "256"),
        ({"password": "a\x1bb"}, "password", "control"),
        ({"password": "Saved_Password"}, "password", "word of the password protocol"),
    ],
)
def test_one_bad_value_beside_good_ones(
    guest: Guest, servers: Any, cloud: Dict[str, Any], datum: str, words: str
) -> None:
    """It is refused with a reason and exit code 3; the rest is applied."""
    router = servers.lab(replace(CLOUD, **cloud))
    done = guest.run("apply", "--json", *places(router))
    states = data(done)
    assert done.code == 3 and states[datum] == "refused", done
    assert words in done.json["data"][datum]["reason"]
    assert {state for name, state in states.items() if name != datum} == {"applied"}
    assert router.acknowledged == ([] if datum == "password" else ["127.0.0.1"])


def test_html_among_the_keys(guest: Guest, servers: Any) -> None:
    """A line that is no key is left out with a reason; the keys beside it are written (52)."""
    router = servers.lab(replace(CLOUD, ssh_keys=("garbage <b>", make_key(5))))
    done = guest.run("apply", "--json", *places(router))
    assert done.code == 3 and make_key(5) in guest.authorized() and "garbage" not in guest.authorized()
    assert any(refusal["datum"] == "ssh_keys" for refusal in done.json["refusals"])


def test_hostile_metadata_keys(guest: Guest, servers: Any) -> None:
    """A key named like a path is never asked for, and is on record; a listed key that is missing is too."""
    router = servers.lab(
        replace(CLOUD, metadata={**CLOUD.metadata, "../../etc/passwd": "x", "tier": "a\x1bb"})
    )
    done = guest.run("fetch", "--json", *places(router))
    assert done.code == 0 and "tier" not in done.json["metadata"]
    assert not any("passwd" in request.what for request in router.requests)
    assert len(done.json["refusals"]) >= 2
    assert done.json["hostname"] == "web01"


@pytest.mark.parametrize("channel", ["router", "drive"])
def test_a_thousand_keys(guest: Guest, servers: Any, tmp_path: Path, channel: str) -> None:
    """As many as somebody may have: 95 KiB of them from either source, written, and no news the next time."""
    cloud = replace(CLOUD, ssh_keys=tuple(make_key(number) for number in range(1000)), password=None)
    if channel == "router":
        words = places(servers.lab(cloud))
    else:
        words = ["--drive", str(make_drive(tmp_path / "d.iso", cloud))]
    assert data(guest.run("apply", "--json", *words))["ssh_keys"] == "applied"
    written = set(guest.authorized().splitlines())
    assert written >= set(cloud.ssh_keys)
    assert data(guest.run("apply", "--json", *words))["ssh_keys"] == "unchanged"


def test_mac_where_an_address_should_be(guest: Guest, tmp_path: Path) -> None:
    """local-ipv4 of a rebuilt drive can be a MAC (field/cloudstack#edge-20): only that is left out."""
    files = {"cloudstack/metadata/local-ipv4.txt": b"02:00:4c:9f:00:05"}
    done = guest.run("fetch", "--json", "--drive", str(make_drive(tmp_path / "d.iso", files=files)))
    assert done.code == 0 and "local-ipv4" not in done.json["metadata"]
    assert any("local-ipv4" in str(refusal) for refusal in done.json["refusals"])


@pytest.mark.parametrize("what", ["missing", "empty", "text", "truncated", "fifo"])
def test_a_drive_that_is_none(guest: Guest, tmp_path: Path, what: str) -> None:
    """One line, exit code 4, and the place's outcome says why."""
    path = tmp_path / "d.iso"
    if what == "empty":
        path.write_bytes(b"")
    elif what == "text":
        path.write_bytes(b"hello\n" * 20000)
    elif what == "truncated":
        make_drive(path)
        path.write_bytes(path.read_bytes()[:40000])
    elif what == "fifo":
        os.mkfifo(path)
    done = guest.run("apply", "--drive", str(path))
    assert done.code == 4 and done.err.count("\n") == 1 and str(path) in done.err, done


def test_a_bad_drive_does_not_cost_the_router(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """The good data beside a broken drive is applied."""
    (tmp_path / "d.iso").write_bytes(b"x" * 100000)
    done = guest.run("apply", "--json", *places(router), "--drive", str(tmp_path / "d.iso"))
    assert done.code == 0 and guest.password_is(PASSWORD)


def test_dead_router(guest: Guest, servers: Any) -> None:
    """Refused until the time is up: exit code 4 and one line that says what was tried."""
    port = servers.free_port()
    start = time.monotonic()
    done = guest.run("apply", "--router", f"127.0.0.1:{port}", "--wait", str(WAIT))
    assert done.code == 4 and done.err.count("\n") == 1 and "refused" in done.err
    assert time.monotonic() - start > WAIT - 1.0


def test_silent_router(guest: Guest) -> None:
    """One that accepts and says nothing does not hold anything past the wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = time.monotonic()
        done = guest.run("fetch", "--router", f"127.0.0.1:{listener.getsockname()[1]}", "--wait", str(WAIT))
        assert done.code == 4 and "timeout" in done.err
        assert time.monotonic() - start > WAIT - 1.0


def test_no_source_at_all(guest: Guest) -> None:
    """A tree without anything to ask ends at once, with 4 and one line."""
    done = guest.run("apply", "--wait", NEVER)
    assert done.code == 4 and done.err.count("\n") == 1
    status = guest.run("status")
    assert status.code == 0 and "no CloudStack source" in status.out


def test_somebodys_web_interface(guest: Guest, servers: Any) -> None:
    """A gateway that answers all with a page is not believed, on either port (field/cloudstack#edge-3)."""
    page = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html><title>Router login</title></html>"
    web = servers.says(page)
    plain = servers.says(b"HTTP/1.0 200 OK\r\n\r\nadmin-EXAMPLE")
    for peer in (web, plain):
        words = ["--router", f"127.0.0.1:{peer.port}", "--password-port", str(peer.port), "--wait", str(WAIT)]
        done = guest.run("apply", *words)
        assert done.code == 4 and peer.requests, done
    assert guest.text("etc/shadow").startswith("root:*:")


def test_password_server_without_metadata(guest: Guest, servers: Any) -> None:
    """A password server that signs its reply is believed though :80 is dead; an unsigned one is not."""
    signed, unsigned = servers.lab(CLOUD), servers.lab(CLOUD, shape="socat")
    dead = servers.free_port()
    words = ["apply", "--json", "--router", f"127.0.0.1:{dead}", "--wait", str(WAIT), "--password-port"]
    assert guest.run(*words, str(unsigned.password_port)).code == 4 and unsigned.acknowledged == []
    done = guest.run(*words, str(signed.password_port))
    assert done.code == 0 and data(done)["password"] == "applied" and len(signed.acknowledged) == 1
    lose_the_acknowledgement(guest, signed)
    again = guest.run("apply", "--json", *places(signed))
    assert data(again)["password"] == "unchanged" and data(again)["hostname"] == "applied"


def test_stale_password_while_metadata_is_down(guest: Guest, servers: Any) -> None:
    """Nobody tells the id for one pass: what was applied last is still known, the owner's password stays."""
    router = servers.lab(CLOUD)
    guest.run("apply", *places(router))
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    lose_the_acknowledgement(guest, router)
    dead = f"127.0.0.1:{servers.free_port()}"
    words = ["--router", dead, "--password-port", str(router.password_port), "--wait", str(WAIT)]
    done = guest.run("apply", "--json", *words)
    assert data(done)["password"] == "unchanged" and guest.text("etc/shadow").startswith("root:$6$owner$x")


def test_another_account_takes_the_keys_along(guest: Guest, router: LabRouter) -> None:
    """When the setting user changes, the former account's file loses our lines and keeps its owner's."""
    guest.run("apply", *places(router))
    with (guest.root / "root/.ssh/authorized_keys").open("a") as stream:
        stream.write(make_key(9, "owner") + "\n")
    (guest.root / "etc/csagent").mkdir()
    (guest.root / "etc/csagent/csagent.yaml").write_text("user: alice\n")
    assert guest.run("apply", *places(router)).code == 0
    assert guest.authorized() == make_key(9, "owner") + "\n"
    assert make_key(1) in guest.text("home/alice/.ssh/authorized_keys")


def test_a_damaged_memory_is_told_and_kept(guest: Guest, router: LabRouter) -> None:
    """plan, apply and status say so; the damaged file lies beside the new one."""
    guest.run("apply", *places(router))
    path = guest.root / f"var/lib/csagent/instances/{INSTANCE}.json"
    path.write_text("{damaged")
    assert "is damaged" in guest.run("plan", *places(router)).out.replace("\n", " ")
    assert "is damaged" in guest.run("plan", "--json", *places(router)).json["note"]
    done = guest.run("apply", *places(router))
    assert done.code == 0 and "is damaged" in done.err
    assert "is damaged" in guest.run("status", "--json").json["note"]
    assert path.with_name(path.name + ".damaged").read_text() == "{damaged"


def test_one_thing_fails_alone(guest: Guest, router: LabRouter) -> None:
    """With ~/.ssh a symbolic link the keys fail; host name and password are set, and it is exit code 3."""
    (guest.root / "elsewhere").mkdir()
    (guest.root / "root/.ssh").symlink_to("/elsewhere")
    done = guest.run("apply", "--json", *places(router))
    assert done.code == 3 and data(done)["ssh_keys"] == "failed" and data(done)["password"] == "applied"
    assert "links are not followed" in done.err and not list((guest.root / "elsewhere").iterdir())
    (guest.root / "root/.ssh").unlink()
    again = guest.run("apply", "--json", *places(router))
    assert again.code == 0 and data(again)["ssh_keys"] == "applied"


def test_all_fails(guest: Guest, router: LabRouter) -> None:
    """When nothing could be done the exit code is 1 and nothing is acknowledged."""
    (guest.root / "etc/csagent").mkdir()
    (guest.root / "etc/csagent/csagent.yaml").write_text("user: nobody-here\nhostname: false\n")
    (guest.root / "var/lib").mkdir(exist_ok=True)
    (guest.root / "var/lib/csagent").write_text("in the way")
    done = guest.run("apply", *places(router))
    assert done.code == 1 and router.acknowledged == [], done


def test_unremembered_is_unacknowledged(guest: Guest, router: LabRouter) -> None:
    """If the password cannot be remembered it is not acknowledged, and the next pass finishes the job."""
    (guest.root / "var/lib").mkdir(exist_ok=True)
    (guest.root / "var/lib/csagent").write_text("in the way")
    assert guest.run("apply", *places(router)).code == 1
    assert router.acknowledged == []
    (guest.root / "var/lib/csagent").unlink()
    assert guest.run("apply", *places(router)).code == 0
    assert len(router.acknowledged) == 1 and guest.password_is(PASSWORD)


# --- usage ---


@pytest.mark.parametrize(
    "words",
    [
        ["apply", "--router", "a b"],
        ["apply", "--router", "x:99999"],
        ["fetch", "--password-port", "0"],
        ["fetch", "--wait", "-1"],
        ["fetch", "--router", "127.0.0.1:1", "--source", "drive"],
        ["frobnicate"],
        [],
        ["--config", "/nonexistent.yaml", "plan"],
        ["--root", "/nonexistent-EXAMPLE", "status", "--wait", "x"],
    ],
)
def test_usage_errors(guest: Guest, words: List[str]) -> None:
    """Wrong words are exit code 2 and say what is wrong."""
    done = guest.run(*words)
    assert done.code == 2 and done.err


def test_broken_settings_are_exit_code_2(guest: Guest, router: LabRouter) -> None:
    """One line with file, line and the nearest key; nothing is read or changed."""
    (guest.root / "etc/csagent").mkdir()
    (guest.root / "etc/csagent/csagent.yaml").write_text("hostnam: true\n")
    done = guest.run("apply", *places(router))
    assert done.code == 2 and done.err.count("\n") == 1 and '"hostname"' in done.err
    assert router.requests == []


# --- output ---


def test_fetch_json_layout(guest: Guest, router: LabRouter) -> None:
    """The parts that other programs rely on are there, with the password masked."""
    document = guest.run("fetch", "--json", *places(router)).json
    assert document["schema"] == 1 and document["instance_id"] == INSTANCE and document["hostname"] == "web01"
    assert document["ssh_keys"] == [make_key(1), make_key(2)]
    assert document["password"]["state"] == "offered" and document["password"]["value"] == "***"
    assert document["user_data"] == {
        "size": len(CLOUD.user_data),
        "sha256": hashlib.sha256(CLOUD.user_data).hexdigest(),
        "kind": "script",
    }
    assert document["metadata"]["service-offering"] == "Small Instance"
    assert document["network"] is None
    assert document["provenance"]["hostname"] == f"router 127.0.0.1:{router.port}"
    assert {"place", "why", "outcome", "detail"} <= set(document["places"][0])


@pytest.mark.skipif(os.geteuid() != 0, reason="--show-secrets is for root")
def test_show_secrets_and_save(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """Root can see the password; --save writes what was read, mode 0600."""
    done = guest.run("fetch", "--json", "--show-secrets", "--save", str(tmp_path / "out"), *places(router))
    assert done.json["password"]["value"] == PASSWORD
    saved = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert saved["user-data"].read_bytes() == CLOUD.user_data and saved["password"].read_text() == PASSWORD
    assert {path.stat().st_mode & 0o777 for path in saved.values()} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="--show-secrets is for root")
def test_metadata_that_gives_a_password_away_is_masked(
    guest: Guest, router: LabRouter, tmp_path: Path
) -> None:
    """As the password itself: shown to root who asks for it, and kept nowhere."""
    router.change(metadata={"password-checksum": "marker-EXAMPLE-md5", "vm_password": "marker-EXAMPLE-md5"})
    words = ["fetch", *places(router), "--save", str(tmp_path / "out")]
    for more in ([], ["--json"]):
        assert "marker-EXAMPLE-md5" not in guest.run(*words, *more).out
    assert not any(b"EXAMPLE-md5" in path.read_bytes() for path in (tmp_path / "out").iterdir())
    shown = guest.run(*words, "--json", "--show-secrets").json["metadata"]
    assert shown["password-checksum"] == shown["vm_password"] == "marker-EXAMPLE-md5"
    guest.run("apply", *places(router))
    shutil.rmtree(tmp_path / "out")
    kept = [path for path in guest.root.rglob("*") if path.is_file()]
    assert not any(b"EXAMPLE-md5" in path.read_bytes() for path in kept)


def test_plan_is_a_diff_with_secrets_masked(guest: Guest, router: LabRouter) -> None:
    """What goes and what comes, per datum, and nothing of the password."""
    text = guest.run("plan", *places(router)).out
    assert "-debian" in text and "+web01" in text and "+root:***" in text
    document = guest.run("plan", "--json", *places(router)).json
    assert document["changes"] is True
    assert [action["datum"] for action in document["actions"]] == [
        "hostname",
        "ssh_keys",
        "password",
        "user_data",
        "network",
    ]
    guest.run("apply", *places(router))
    assert guest.run("plan", "--json", *places(router)).json["changes"] is False


@pytest.mark.parametrize("columns", [40, 80])
def test_output_fits_the_console(guest: Guest, router: LabRouter, columns: int) -> None:
    """No line is longer than the console, and nothing is coloured where it is no terminal."""
    outputs = [
        guest.run(command, *places(router), columns=columns).out for command in ("fetch", "plan", "apply")
    ]
    outputs += [guest.run(command, columns=columns).out for command in ("status", "discover")]
    for output in outputs:
        assert output and "\033" not in output
        assert max(len(line) for line in output.split("\n")) <= columns, output


def test_status_and_query(guest: Guest, router: LabRouter) -> None:
    """Both answer from the last pass; before one they say so, and --wait waits for it."""
    early = guest.run("status")
    assert early.code == 1 and "no pass has ended yet" in early.err and early.err.count("\n") == 1
    thread = threading.Timer(0.7, lambda: guest.run("apply", *places(router)))
    thread.daemon = True
    thread.start()
    waited = guest.run("status", "--wait", NEVER, "--json")
    thread.join(300)
    assert waited.code == 0 and waited.json["instance_id"] == INSTANCE
    assert waited.json["data"]["hostname"]["source"].startswith("router")
    assert guest.run("query", "hostname").out == "web01\n"
    assert guest.run("query", "service-offering").out == "Small Instance\n"
    assert guest.run("query", "ssh_keys").out == f"{make_key(1)}\n{make_key(2)}\n"
    assert guest.run("query", "instance-id").out == f"{INSTANCE}\n"
    assert guest.run("query", "user-data").out.encode() == CLOUD.user_data
    router.change(
        hostname="10.1.1.1",
        metadata={**CLOUD.metadata, "hostname": "$(reboot)", "network": "custom", "role": "EXAMPLE-role"},
    )
    guest.run("apply", *places(router))
    for word in ("hostname", "HOSTNAME", "network"):
        assert guest.run("query", word).code == 1, "no metadata key answers for a word of csagent's own"
    assert guest.run("query", "role").out == "EXAMPLE-role\n"
    wrong = guest.run("query", "nothing-like-it")
    assert wrong.code == 1 and "service-offering" in wrong.err and wrong.err.count("\n") == 1


@pytest.mark.parametrize(
    "text", ['{"data": {"a": 1}, "places": [1]}', "[", "[]", '{"data": []}', "[" * 100000]
)
def test_a_damaged_status_is_no_traceback(guest: Guest, router: LabRouter, text: str) -> None:
    """status says what it can, apply replaces it."""
    (guest.root / "run/csagent").mkdir()
    (guest.root / "run/csagent/status.json").write_text(text)
    assert guest.run("status").code in (0, 1)
    assert guest.run("apply", *places(router)).code == 0
    assert guest.run("status").code == 0


def test_status_stays_inside_the_root(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link in the tree does not lead status or query to the host's files; a missing root is usage."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "csagent").mkdir()
    (outside / "csagent/status.json").write_text('{"schema": 1, "instance_id": "outside"}')
    (guest.root / "run").rmdir()
    (guest.root / "run").symlink_to(outside)
    done = guest.run("status")
    assert done.code == 1 and "outside" not in done.out
    assert Guest(Path("/nonexistent-EXAMPLE")).run("status").code == 2


def test_full_disk_behind_standard_output(guest: Guest, router: LabRouter) -> None:
    """Output that cannot be written is one line and exit code 1; closed streams are survived."""
    command = [sys.executable, "-m", "csagent", "--root", str(guest.root), "fetch", *places(router)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr
    shell = ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *command]
    assert subprocess.run(shell, timeout=PATIENCE, check=False).returncode in (0, 1)


def test_started_where_the_end_of_children_is_ignored() -> None:
    """A program that fails has failed, also below a script of bash with `trap '' CHLD`."""
    code = (
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "from csagent.cli import main; from csagent.system.seams import System;"
        "fails = lambda _parsed: System.at('/').runner.run(['sh', '-c', 'exit 7']).code;"
        "main._COMMANDS['user-data'] = fails; raise SystemExit(main.main(['user-data', 'run']))"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=False)
    assert done.returncode == 7


def test_run_files_are_public_and_hold_no_secret(guest: Guest, router: LabRouter) -> None:
    """status.json and instance.json are 0644 without password or user-data; the rest is root's alone."""
    router.change(
        metadata={
            **CLOUD.metadata,
            "db_password": "marker-EXAMPLE",
            "password-checksum": "marker-EXAMPLE-md5",
        }
    )
    guest.run("apply", *places(router))
    forms = [
        PASSWORD,
        hashlib.md5(PASSWORD.encode()).hexdigest(),
        base64.b64encode(PASSWORD.encode()).decode(),
    ]
    for name in ("status.json", "instance.json"):
        path = guest.root / "run/csagent" / name
        text = path.read_text()
        assert path.stat().st_mode & 0o777 == 0o644
        assert not any(form in text for form in [*forms, "marker-EXAMPLE"])
    variables = guest.root / "run/csagent/variables.json"
    assert variables.stat().st_mode & 0o777 == 0o600
    assert json.loads(variables.read_text())["metadata"] == {"db_password": "marker-EXAMPLE"}
    assert guest.run("query", "db_password").out == "marker-EXAMPLE\n"
    assert guest.run("query", "password-checksum").code == 1
    for path in guest.root.rglob("*"):
        if path.is_file() and "user-data" not in path.name:
            assert not any(form.encode() in path.read_bytes() for form in forms), path
    assert (guest.root / "var/lib/csagent").stat().st_mode & 0o777 == 0o700


STEPS = {
    "before the password is set": "csagent.apply.password.set_password",
    "before it is remembered": "csagent.state.applied.save",
    "before it is acknowledged": "csagent.sources.acknowledge.acknowledge",
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_two_steps(guest: Guest, router: LabRouter, step: str) -> None:
    """Killed at any step, the next pass sets and acknowledges it once (field/cloudstack#edge-35)."""
    module, name = STEPS[step].rsplit(".", 1)
    code = (
        f"import os, sys, {module} as module; module.{name} = lambda *_, **__: os.kill(os.getpid(), 9);"
        "from csagent.cli.main import main; sys.exit(main())"
    )
    words = ["--root", str(guest.root), "apply", *places(router)]
    config = guest.root / "only-password.yaml"
    config.write_text("hostname: false\nssh_keys: false\n")
    words = ["--config", str(config), *words]
    killed = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, timeout=PATIENCE, check=False
    )
    assert killed.returncode == -9 and router.acknowledged == []
    assert guest.password_is(PASSWORD) is (step != "before the password is set")
    before = guest.text("etc/shadow")
    done = guest.run("apply", "--json", *places(router))
    assert done.code == 0 and guest.password_is(PASSWORD) and len(router.acknowledged) == 1
    if step != "before the password is set":
        assert guest.text("etc/shadow") == before
    assert not [path for path in guest.root.rglob(".*csagent-new")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's children lose the right to read")
def test_code_that_the_children_cannot_read(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """A checkout in root's home: all that a child needs is loaded before it loses its rights."""
    hidden = tmp_path / "hidden"
    shutil.copytree(REPOSITORY / "csagent", hidden / "csagent", ignore=shutil.ignore_patterns("__pycache__"))
    hidden.chmod(0o700)
    router.change(metadata={**CLOUD.metadata, "availability-zone": "grün 中 \U0001f600"})
    image = make_drive(tmp_path / "d.iso", router.cloud)
    drive.build_tree(str(tmp_path / "copy"), drive.files_for(router.cloud))
    code = f"import sys; sys.path.insert(0, {str(hidden)!r}); from csagent.cli.main import entry; entry()"
    replay = REPOSITORY / "tests/fixtures/leases/systemd-networkd-262/redundant-rebind"
    for words in (
        ["--root", str(guest.root), "apply", *places(router), "--drive", str(image)],
        ["--root", str(guest.root), "fetch", "--drive", str(tmp_path / "copy")],
        ["--root", str(replay), "discover", "--json"],
        ["discover", "--json"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd="/",
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), words
    assert guest.password_is(PASSWORD) and len(router.acknowledged) == 1


def test_two_passes_at_once_take_turns(guest: Guest, router: LabRouter) -> None:
    """Side by side they do not run into each other: the password is acknowledged once, both end with 0."""
    router.latency = 0.05
    codes: List[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(guest.run("apply", *places(router)).code), daemon=True)
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert codes == [0, 0, 0] and len(router.acknowledged) == 1


def test_a_router_is_given_by_its_name(guest: Guest, router: LabRouter) -> None:
    """The reader looks it up, also where it cannot read Python's own files: those it needs are loaded."""
    named = ["--router", f"localhost:{router.port}", "--password-port", str(router.password_port)]
    assert guest.run("fetch", "--json", *named).json["hostname"] == "web01"


def test_usage_errors_are_one_line(guest: Guest) -> None:
    """Wrong words are one line that names the command and where its help is."""
    for words in (
        ["fetch", "--bogus"],
        ["apply", "--router", "http://127.0.0.1/"],
        ["fetch", "--router", "::1"],
        ["fetch", "--drive", ""],
        ["status", "a", "b"],
    ):
        done = guest.run(*words)
        assert done.code == 2 and done.err.count("\n") == 1 and done.out == "", (words, done)


def test_save_keeps_the_password_only_when_it_is_shown(guest: Guest, servers: Any, tmp_path: Path) -> None:
    """Without --show-secrets no password is written; what an earlier save left is removed."""
    router = servers.lab(replace(CLOUD, metadata={**CLOUD.metadata, "role": "x"}))
    out = tmp_path / "out"
    assert guest.run("fetch", "--save", str(out), *places(router)).code == 0
    assert (out / "metadata.role").exists() and not (out / "password").exists()
    router.change(metadata=CLOUD.metadata)
    guest.run("fetch", "--save", str(out), *places(router))
    assert not (out / "metadata.role").exists() and PASSWORD not in (out / "fetch.json").read_text()


def test_save_keeps_every_key_of_the_metadata(guest: Guest, servers: Any, tmp_path: Path) -> None:
    """A file each, also for keys whose names are too long for one and alike at their beginning."""
    long = {"\u4e00" * 60 + str(number): f"value {number}" for number in range(5)}
    router = servers.lab(replace(CLOUD, metadata={**CLOUD.metadata, **long}))
    out = tmp_path / "out"
    for _ in range(2):
        assert guest.run("fetch", "--save", str(out), *places(router)).code == 0
        saved = [path.read_text() for path in out.glob("metadata.%*")]
        assert sorted(saved) == sorted(long.values())


def test_save_touches_nothing_of_somebody_elses(guest: Guest, router: LabRouter, tmp_path: Path) -> None:
    """A directory with other files in it is refused as it is: a file of ours might have the name of one."""
    out = tmp_path / "mine"
    out.mkdir()
    (out / "password").write_text("EXAMPLE")
    done = guest.run("fetch", "--save", str(out), *places(router))
    assert done.code == 1 and "no earlier --save" in done.err and done.err.count("\n") == 1
    assert (out / "password").read_text() == "EXAMPLE" and os.listdir(out) == ["password"]


def test_quiet_and_verbose(guest: Guest, router: LabRouter) -> None:
    """-q prints nothing that went well; -v tells on standard error what was looked at."""
    assert guest.run("-q", "fetch", *places(router))[:2] == (0, "")
    assert guest.run("plan", "-q", *places(router)).out == ""
    assert "password server" in guest.run("-v", "fetch", *places(router)).err
    assert "hostname applied" in guest.run("apply", "-v", *places(router)).err
    assert guest.run("-q", "status").out == ""


def test_plan_says_what_stands_in_the_way(guest: Guest, router: LabRouter) -> None:
    """A missing shadow file or home directory is in the plan, not a surprise of apply."""
    (guest.root / "etc/shadow").unlink()
    (guest.root / "root").rmdir()
    assert guest.run("plan", *places(router)).out.count("! ") == 2
    actions = guest.run("plan", "--json", *places(router)).json["actions"]
    (keys,), (password,) = (one["diff"] for one in actions if one["datum"] in ("ssh_keys", "password"))
    assert "home directory" in keys and "shadow" in password


def test_a_status_that_cannot_be_written_is_said(guest: Guest, router: LabRouter) -> None:
    """The pass is done all the same, and no older status stands in its place."""
    guest.run("apply", *places(router))
    (guest.root / "run/csagent/status.json").unlink()
    (guest.root / "run/csagent/status.json").mkdir()
    done = guest.run("apply", *places(router))
    assert done.code == 0 and "record of this pass could not be written" in done.err


def test_a_device_is_not_replaced_by_an_image(tmp_path: Path) -> None:
    """`lab drive` writes regular files only: a device node or a link stays what it is."""
    from csagent.errors import UsageError

    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("target")
    for name in ("fifo", "link"):
        with pytest.raises(UsageError, match="regular file"):
            drive.build(str(tmp_path / name), {})
