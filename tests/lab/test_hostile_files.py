"""Hostile files, through the command line: settings, recordings, leases, what the last pass left behind.

Whatever lies there, a command ends within seconds and 64 MiB, with one line or a recorded reason.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from support.costs import PEAK_LIMIT, Measured, csagent
from support.samples import INSTANCE, make_key

from csagent.discovery.leases.belief import CLIENTS
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter

SECONDS = 20.0  # of processor time; the slowest takes about two
LARGE = 100 << 20
HOST_NAME = "web01"
NIC = {"address": "02:00:4c:9f:00:05", "ifindex": "2", "type": "1"}

Make = Callable[[Path], None]


def text(content: str) -> Make:
    """A file of this text."""
    return raw(content.encode())


def raw(content: bytes) -> Make:
    """A file of these bytes."""

    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def large(path: Path) -> None:
    """100 MB, of which only the ends are on the disk."""
    with path.open("wb") as stream:
        stream.truncate(LARGE)


def loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


def zero(path: Path) -> None:
    """A link to /dev/zero, inside a root where there is none."""
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    """A directory where a file should be."""
    path.mkdir()


def unlike(seed: int, size: int = 300_000) -> bytes:
    """Random bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


ODD: Dict[str, Make] = {
    "100 MB": large,
    "a pipe": lambda path: os.mkfifo(path),
    "a link to itself": loop,
    "a link to a device": zero,
    "a directory": directory,
    "random bytes": raw(unlike(1)),
    "empty": raw(b""),
    "NUL bytes": raw(bytes(1 << 20)),
    "one line of a megabyte": raw(b"a" * (1 << 20)),
    "a million line ends": raw(b"\n" * (1 << 20)),
}


def check(done: Measured, *codes: int) -> None:
    """Its end, its cost, and at most one line on standard error."""
    assert done.code in codes, done
    assert done.processor < SECONDS
    assert done.peak <= PEAK_LIMIT
    assert len(done.err.splitlines()) <= 1 and len(done.err) < 1000, done.err


# --- settings ---

MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 12)
)
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
YAML: Dict[str, Make] = {
    "a billion laughs": text(LAUGHS),
    "merge keys": text(MERGES),
    "brackets 25,000 deep": text("user: " + "[" * 25_000),
    "braces 25,000 deep": text("user: " + "{a: " * 25_000),
    "dashes 25,000 deep": text("- " * 25_000),
    "question marks 25,000 deep": text("? " * 25_000),
    "indented 1,000 deep": text("".join(f"{' ' * n}a:\n" for n in range(1_000))),
    "300,000 items": text("sources: [" + "a," * 300_000 + "]\n"),
    "49,000 items": text("sources: [" + "a," * 49_000 + "]\n"),
    "150,000 keys": text("".join(f"k{n}: 1\n" for n in range(100_000))),
    "a scalar of a megabyte": text("user: " + "r" * 1_000_000),
    "a quoted scalar of a megabyte": text('user: "' + "\\x41" * 250_000 + '"'),
    "a block scalar of a megabyte": text("user: |\n" + "  r\n" * 250_000),
    "a comment of a megabyte": text("user: rooot!\n#" + "r" * 1_000_000),
    "a number of 4,000 digits": text("wait: " + "9" * 4_000),
    "a number of 4,000 sixties": text("wait: " + ":".join(["59"] * 1_300)),
    "infinity": text("wait: .inf\n"),
    "no number": text("poll: .nan\n"),
    "a tag": text("user: !!python/object/apply:os.system [true]\n"),
    "100,000 anchors": text("".join(f"k{n}: &a{n} 1\n" for n in range(60_000))),
    "100,000 documents": text("--- {}\n" * 100_000),
}
HARMLESS = ("empty", "a million line ends")


@pytest.mark.parametrize("name", [*YAML, *(name for name in ODD if name not in HARMLESS)])
def test_settings_that_are_a_bomb(tree: Path, name: str) -> None:
    """One line that names the file, exit code 2, in the two usual places."""
    main, drop_in = tree / "etc/csagent/csagent.yaml", tree / "etc/csagent/conf.d/50-x.yaml"
    drop_in.parent.mkdir(parents=True)
    for path in (main, drop_in):
        ({**YAML, **ODD}[name])(path)
        done = csagent(tree, "discover")
        if name == "a link to a device" or (name == "a link to itself" and path == drop_in):
            check(done, 0)  # inside this root it leads nowhere, as if there were no file
        else:
            check(done, 2)
            assert path.name in done.err
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", ["100 MB", "a pipe", "a link to itself", "a directory", "random bytes"])
def test_config_that_is_no_settings_file(tree: Path, tmp_path_factory: Any, name: str) -> None:
    """The same for --config; nobody waits for a pipe that nobody writes to."""
    path = tmp_path_factory.mktemp("config") / "settings"
    ODD[name](path)
    done = csagent(tree, "--config", str(path), "discover")
    check(done, 2)
    assert "settings" in done.err


def test_config_that_is_a_device(tree: Path) -> None:
    """/dev/zero never ends and is too large; /dev/null says nothing."""
    check(csagent(tree, "--config", "/dev/zero", "discover"), 2)
    check(csagent(tree, "--config", "/dev/null", "discover"), 0)


def test_config_from_a_pipe(tree: Path) -> None:
    """What a shell's <(...) gives is read; one that is held open and says nothing is given up."""
    for words, code in ((b"user: alice\n", 0), (b"", 2), (None, 2)):
        reading, writing = os.pipe()
        try:
            path = f"/proc/{os.getpid()}/fd/{reading}"
            if words is not None:
                os.write(writing, words)
                os.close(writing)
            check(csagent(tree, "--config", path, "discover"), code)
        finally:
            os.close(reading)
            if words is None:
                os.close(writing)


def test_thousand_settings_files(tree: Path) -> None:
    """Many files of the largest size that is read cost no more memory than one."""
    drop_ins = tree / "etc/csagent/conf.d"
    drop_ins.mkdir(parents=True)
    for number in range(100):
        (drop_ins / f"{number:03}.yaml").write_bytes(b"#" + b"x" * 1_000_000)
    check(csagent(tree, "discover"), 0)


# --- recorded.json ---

RECORDINGS: Dict[str, Make] = {
    "nested 400,000 deep": text("[" * 400_000),
    "nested 400,000 deep in objects": text('{"a":' * 150_000),
    "nested 900 deep": text('{"now": 1, "commands": ' + "[" * 900 + "]" * 900 + "}"),
    "300,000 empty objects": text('{"now": 1, "commands": {"a": [' + ",".join(["{}"] * 300_000) + "]}}"),
    "80,000 members": text('{"now": 1, ' + ",".join(f'"k{n}": {{}}' for n in range(80_000)) + "}"),
    "1e999": text('{"now": 1e999}'),
    "-1e999": text('{"now": -1e999}'),
    "NaN": text('{"now": NaN}'),
    "Infinity": text('{"now": Infinity}'),
    "1e308": text('{"now": 1e308}'),
    "a number of 4,000 digits": text('{"now": ' + "9" * 4_000 + "}"),
    "a number of 100,000 digits": text('{"now": ' + "9" * 100_000 + "}"),
    "a number of a million digits elsewhere": text('{"now": 1, "x": ' + "9" * 1_000_000 + "}"),
    "a real number of 900,000 digits": text('{"now": 0.' + "9" * 900_000 + "e9999}"),
    "before 1970": text('{"now": -1}'),
    "text": text('{"now": "later"}'),
    "true": text('{"now": true}'),
    "half of a pair": text('{"now": 1, "commands": {"\\ud800": 1}}'),
}


@pytest.mark.parametrize("name", [*RECORDINGS, *(name for name in ODD if name != "a link to a device")])
def test_recordings_that_are_a_bomb(tree: Path, name: str) -> None:
    """One line that names the file, exit code 2."""
    ({**RECORDINGS, **ODD}[name])(tree / "recorded.json")
    done = csagent(tree, "discover")
    check(done, 2)
    assert "recorded.json" in done.err


@pytest.mark.parametrize("output", list(ODD))
def test_recorded_output_that_is_a_bomb(tree: Path, output: str) -> None:
    """The output of a command is as hostile as its file: the command counts as failed, or says nothing."""
    nic(tree)
    (tree / "run/systemd/netif/links").mkdir(parents=True)
    (tree / "run/systemd/netif/links/2").write_text("ADMIN_STATE=configured\n")
    commands = {"networkctl --json=short status eth0": "said", "dhcpcd -U eth0": "said"}
    (tree / "recorded.json").write_text(json.dumps({"now": 1_700_000_000, "commands": commands}))
    ODD[output](tree / "said")
    done = csagent(tree, "discover", "--json")
    check(done, 0)
    assert done.json["leases"] == []


# --- leases ---


def nic(tree: Path) -> None:
    """One NIC, eth0, as /sys has it."""
    where = tree / "sys/class/net/eth0"
    where.mkdir(parents=True)
    for name, value in NIC.items():
        (where / name).write_text(value + "\n")


def lease_files() -> List[str]:
    """One path for every pattern of every client, as if for eth0."""
    found = []
    for client in CLIENTS:
        for pattern in client.FILES:
            directories, _, name = pattern.rpartition("/")
            stem = "2" if name == "*" else "eth0"
            if "connman" in pattern:
                directories = directories.replace("*", "ethernet_02004c9f0005_cable")
            found.append(f"{directories}/{name.replace('*', stem)}")
    return found


GOOD_LEASE = "/var/lib/dhcp/dhclient.eth1.leases"
GOOD = """lease {
  interface "eth1";
  fixed-address 10.1.1.42;
  option dhcp-server-identifier 10.1.1.1;
  option routers 10.1.1.1;
}
"""
TRICKS: Dict[str, Make] = {
    "random lines": raw(b"\n".join(unlike(2).split(b"\0"))),
    "a lease that never ends": raw(b"lease {\n" + b'  option x "' + b'\\"' * 120_000),
    "20,000 leases": raw(b'lease {\n interface "e%d";\n}\n' * 9_000),
    "10,000 interfaces": raw(b"".join(b'lease {\n interface "e%d";\n}\n' % n for n in range(8_000))),
    "an interface that is no text": raw(b'lease {\n interface "\xff\xfe\x1b[2J";\n}\n'),
    "half of a quote": raw(b"IPV4ADDR='" + b"'\\''" * 60_000 + b"\n"),
    "keys that are repeated": raw(b"ADDRESS=10.1.1.1\nADDRESS=10.1.1.2\n" * 7_000),
    "50,000 keys": raw(b"".join(b"K%d=1\n" % n for n in range(25_000))),
    "XML entities": raw(b'<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]>\n<lease>&c;</lease>\n'),
    "deep XML": raw(b"<lease>" * 30_000 + b"</lease>\n"),
    "deep JSON": raw(b"[" * 200_000),
    "a message of options": raw(b"\2" + bytes(235) + b"\x63\x82\x53\x63" + b"\x36\x01\x0a" * 80_000),
    "a message of padding": raw(b"\2" + bytes(235) + b"\x63\x82\x53\x63" + bytes(200_000) + b"\xff"),
}


@pytest.mark.parametrize("name", [*ODD, *TRICKS])
def test_leases_that_are_a_bomb(tree: Path, name: str) -> None:
    """In the files of every client at once: no lease comes of it, and a good one beside them is found."""
    nic(tree)
    good = tree / GOOD_LEASE.lstrip("/")
    for path in (*lease_files(), "/var/lib/dhcp/dhclient.\udcff.leases"):
        file = tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        ({**ODD, **TRICKS}[name])(file)
    (tree / "sys/class/net/eth1").mkdir()
    (tree / "sys/class/net/eth1/ifindex").write_text("3\n")
    good.write_text(GOOD)
    done = csagent(tree, "discover", "--json")
    check(done, 0)
    assert [lease["address"] for lease in done.json["leases"] if lease["interface"] == "eth1"] == [
        "10.1.1.42"
    ]
    assert [lease for lease in done.json["leases"] if lease["interface"] != "eth1"] == []
    check(csagent(tree, "discover"), 0)


@pytest.mark.parametrize("seed", range(6))
def test_leases_of_random_bytes(tree: Path, seed: int) -> None:
    """Good files with a few bytes changed: always an answer, whatever it is."""
    nic(tree)
    chance = random.Random(seed)
    for path in lease_files():
        file = tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        content = bytearray(
            GOOD.encode() * chance.randint(1, 5) + b"ADDRESS=10.1.1.2\nSERVER_ADDRESS='10.1.1.1'\n"
        )
        for _ in range(chance.randint(1, 40)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        file.write_bytes(content)
    check(csagent(tree, "discover", "--json"), 0)


def test_hundreds_of_large_leases(tree: Path) -> None:
    """A limit on all of them together: 400 files that are each just small enough do not add up to 100 MB."""
    where = tree / "var/lib/dhcp"
    where.mkdir(parents=True)
    for number in range(400):
        (where / f"dhclient.e{number}.leases").write_bytes(b"#" * 250_000)
    done = csagent(tree, "discover")
    check(done, 0)
    assert "bytes of leases in all" in " ".join(done.out.split())


# --- what the last pass left behind ---

RECORDS: Dict[str, Make] = {
    "nested 900 deep": text('{"data": {"hostname": {"applied_at": ' + "[" * 900 + "]" * 900 + "}}}"),
    "nested 400,000 deep": text("[" * 400_000),
    "a million empty lists": text('{"data": [' + ",".join(["[]"] * 1_000_000) + "]}"),
    "4 MB of text beyond U+FFFF": text('{"hostname": "' + "x" * 4_900_000 + '\U0001f600", "note": "x"}'),
    "a number of 100,000 digits": text('{"finished": ' + "9" * 100_000 + "}"),
    "numbers that are none": text('{"finished": 1e999, "seconds": NaN}'),
    "an array": text("[]"),
    "null": text("null"),
    "wrong types": text(
        '{"data": {"a": [], "hostname": {"state": {}, "reason": [], "applied_at": {}}}, "places": [1, {}],'
        ' "metadata": [], "hostname": {"a": 1}, "ssh_keys": 3, "user_data": [1], "memory_id": {"a": []}}'
    ),
    "half of a pair": text(
        '{"data": {"\\ud800": {"state": "\\ud800"}}, "note": "\\udfff", "hostname": "\\ud800",'
        ' "metadata": {"\\ud800": "\\ud800"}, "ssh_keys": ["\\ud800"], "instance_id": "\\ud800"}'
    ),
    "steering a terminal": text('{"data": {"\\u001b[2J": {"state": "\\u001b]0;x\\u0007"}}, "hostname": "x"}'),
    "a memory elsewhere": text('{"user_data": {"size": 1}, "memory_id": "../../../etc/shadow"}'),
}


@pytest.mark.parametrize("name", [*ODD, *RECORDS])
def test_records_that_are_a_bomb(tree: Path, name: str) -> None:
    """status and query end with a value or one line; the next pass replaces both files."""
    where = tree / "run/csagent"
    where.mkdir(parents=True)
    for file in ("status.json", "instance.json"):
        ({**ODD, **RECORDS}[name])(where / file)
    queries = [("query", key) for key in ("hostname", "user-data", "nothing")]
    for words in (("status",), ("status", "--json"), *queries):
        done = csagent(tree, *words)
        check(done, 0, 1)
        assert "\x1b" not in done.out or words != ("status",)
        assert "root:" not in done.out
    with LabRouter(
        Cloud(instance_id=INSTANCE, hostname=HOST_NAME, ssh_keys=(make_key(1),), password=None)
    ) as lab:
        places = ("--router", f"127.0.0.1:{lab.port}", "--password-port", str(lab.password_port))
        done = csagent(tree, "apply", "--json", *places)
    check(done, 0)
    assert (tree / "etc/hostname").read_text() == f"{HOST_NAME}\n"
    if name not in ("a directory", "a link to itself", "a link to a device"):  # those are not replaced
        assert csagent(tree, "query", "hostname").out == f"{HOST_NAME}\n"
        assert csagent(tree, "status", "--json").json["data"]["hostname"]["state"] == "applied"


@pytest.mark.parametrize("name", ["100 MB", "a pipe", "random bytes", *RECORDS])
def test_memories_that_are_a_bomb(tree: Path, name: str) -> None:
    """What was remembered of an instance cannot be read: told, and the host name is set."""
    where = tree / "var/lib/csagent/instances"
    where.mkdir(parents=True)
    for file in (f"{INSTANCE}.json", "unknown.json", "i-2-3-VM.json"):
        ({**ODD, **RECORDS}[name])(where / file)
    with LabRouter(
        Cloud(instance_id=INSTANCE, hostname=HOST_NAME, ssh_keys=(make_key(1),), password=None)
    ) as lab:
        places = ("--router", f"127.0.0.1:{lab.port}", "--password-port", str(lab.password_port))
        done = csagent(tree, "apply", "--json", *places)
        assert done.peak <= PEAK_LIMIT and done.processor < SECONDS
        assert len(done.err.splitlines()) <= 5
    if name != "a pipe":
        assert done.code == 0, done.err
        assert {entry["state"] for entry in done.json["data"].values()} <= {"applied", "absent"}
