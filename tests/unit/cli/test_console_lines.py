"""What an instance's console is shown: a line about the pass, one about each stage, and the host keys."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest
from support.samples import make_key

from csagent.cli import console_lines, host_keys
from csagent.cli.main import main
from csagent.system.seams import System


def entry(state: str, *, wrong: bool = False) -> Dict[str, Any]:
    return {"state": state, "reason": "for a reason", "wrong": wrong}


def status(**data: Dict[str, Any]) -> Dict[str, Any]:
    return {"schema": 1, "source_found": True, "data": data}


WELL = {
    "hostname": entry("applied"),
    "ssh_keys": entry("applied"),
    "password": entry("unchanged"),
    "user_data": entry("applied"),
    "network": entry("absent"),
}


@pytest.fixture
def machine(tree: Path) -> System:
    """A tree that has two NICs, one of them without an address."""
    addresses = [
        {"ifindex": 2, "ifname": "eth0", "addr_info": [{"family": "inet", "local": "10.1.1.42"}]},
        {"ifindex": 3, "ifname": "eth1", "addr_info": []},
    ]
    (tree / "recorded.json").write_text(
        json.dumps({"now": 1_795_233_917, "commands": {"ip -j addr": "addresses.json"}})
    )
    (tree / "addresses.json").write_text(json.dumps(addresses))
    return System.at(str(tree))


def test_a_good_pass_is_one_line(machine: System) -> None:
    """Name, addresses, and that keys and password are set; nothing of what is as it should be besides."""
    line = console_lines.machine_line(machine, status(**WELL))
    assert line == "csagent: debian (10.1.1.42): SSH keys set, password set"


def test_what_went_wrong_is_named(machine: System) -> None:
    """By datum and state, with the command that says why; of the others nothing."""
    data = {**WELL, "password": entry("failed", wrong=True), "network": entry("failed", wrong=True)}
    line = console_lines.machine_line(machine, status(**data))
    assert line == (
        "csagent: debian (10.1.1.42): SSH keys set, password failed, network failed (csagent status says why)"
    )


def test_nothing_given_and_nothing_to_do(system: System) -> None:
    """A later boot has no new password; a setting leaves the keys alone; a tree without addresses says so."""
    data = {**WELL, "ssh_keys": entry("off"), "password": entry("absent")}
    line = console_lines.machine_line(system, status(**data))
    assert line == "csagent: debian (no IPv4 address): SSH keys left alone, no new password"


def test_no_source(machine: System) -> None:
    """That is said, and which command says why."""
    line = console_lines.machine_line(machine, {"schema": 1, "source_found": False, "data": {}})
    assert line == "csagent: debian (10.1.1.42): no CloudStack source found so far; csagent doctor says why"


def test_a_name_steers_no_terminal(tree: Path, system: System) -> None:
    """It is one line of printable characters, and not a long one."""
    (tree / "etc/hostname").write_text("evil\x1b[2J\nname" + "x" * 1000)
    line = console_lines.machine_line(system, status(**WELL))
    assert line.isprintable() and len(line) <= 300


def part(outcome: str, keys: Dict[str, str], code: Any = None) -> Dict[str, Any]:
    return {"name": "part-001", "kind": "cloud-config", "outcome": outcome, "exit": code, "keys": keys}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"state": "waiting", "parts": [part("waiting", {"users": "done", "runcmd": "waiting"})]},
            "user-data, early stage over: all done",
        ),
        (
            {
                "state": "failed",
                "parts": [
                    part("failed", {"users": "failed, 1 of 2", "chpasswd": "done", "groups": "refused"}),
                    part("refused", {}),
                    part("failed", {}, 3),
                ],
            },
            "user-data, early stage over: users failed, 1 of 2; groups refused; part-001 refused; "
            "part-001 failed, exit 3 (csagent status says why)",
        ),
        (
            {"state": "failed", "parts": [part("failed", {"runcmd": "failed, exit 3"}), part("done", {})]},
            "user-data, early stage over: all done",
        ),
        (
            {"state": "changed", "parts": []},
            "user-data has changed since it ran: csagent user-data run --again runs it",
        ),
    ],
    ids=["to-come", "failed", "of-an-earlier-boot", "changed"],
)
def test_a_stage_is_one_line(document: Dict[str, Any], said: str) -> None:
    """What of it is not well, by key, or by part where that has none; nothing that ran before."""
    ran = {(0, "users"), (0, "chpasswd"), (2, "script")}
    assert console_lines.user_data_line("early", document, ran) == f"csagent: {said}"


def test_host_keys_stand_between_cloud_inits_marker_lines(system: System, tree: Path) -> None:
    """Fingerprints, then the keys; a DSA key has its fingerprint only. No private key is read."""
    (tree / "etc/ssh").mkdir()
    key, odd = make_key(7, "root@debian"), "ssh-dss AAAAB3NzaC1kc3MAAAACBQY= root@debian"
    (tree / "etc/ssh/ssh_host_ed25519_key.pub").write_text(f"{key}\n")
    (tree / "etc/ssh/ssh_host_dsa_key.pub").write_text(f"{odd}\n")
    (tree / "etc/ssh/ssh_host_rsa_key.pub").write_text("")
    (tree / "etc/ssh/ssh_host_ed25519_key").write_text("a private key, marker-EXAMPLE")
    assert host_keys.host_keys(system) == [
        "#" * 61,
        "-----BEGIN SSH HOST KEY FINGERPRINTS-----",
        host_keys.fingerprint(odd),
        host_keys.fingerprint(key),
        "-----END SSH HOST KEY FINGERPRINTS-----",
        "#" * 61,
        "-----BEGIN SSH HOST KEY KEYS-----",
        key,
        "-----END SSH HOST KEY KEYS-----",
    ]


@pytest.mark.parametrize("kind", ["rsa", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "ed25519"])
@pytest.mark.parametrize("comment", ["root@web 01", ""])
def test_fingerprints_are_ssh_keygens(tmp_path: Path, kind: str, comment: str) -> None:
    """To the letter, of a new key of each type, with a comment and without."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (Debian: apt install openssh-client)")
    path = str(tmp_path / "key")
    make = ["ssh-keygen", "-q", "-t", *kind.split(), "-N", "", "-C", comment, "-f", path]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL, timeout=300)
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", f"{path}.pub"], capture_output=True, text=True, timeout=300
    )
    assert host_keys.fingerprint(Path(f"{path}.pub").read_text().strip()) == said.stdout.strip()


@pytest.mark.parametrize("line", ["", "ssh-rsa", "ssh-rsa AA=A x", "ssh-rsa AAAA x", "ssh-foo AAAAB3Nz x"])
def test_what_is_no_key_has_no_fingerprint(line: str) -> None:
    """A file that was cut, or is of an unknown type."""
    assert host_keys.fingerprint(line) == ""


def test_without_host_keys_there_are_no_markers(system: System) -> None:
    """A machine without sshd."""
    assert host_keys.host_keys(system) == []


@pytest.mark.parametrize(("first", "count"), [(True, 1), (False, 0)])
def test_status_console_prints_both(
    tree: Path, capsys: pytest.CaptureFixture[str], first: bool, count: int
) -> None:
    """The line below whatever prompt stands there; the keys where that pass was the instance's first."""
    (tree / "run/csagent").mkdir()
    (tree / "run/csagent/status.json").write_text(json.dumps(status(**WELL)))
    (tree / "run/csagent/console").write_text(json.dumps({"schema": 1, "host_keys": first}))
    (tree / "etc/ssh").mkdir()
    (tree / "etc/ssh/ssh_host_ed25519_key.pub").write_text(make_key(7))
    assert main(["--root", str(tree), "status", "--console"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("\ncsagent: debian (no IPv4 address): SSH keys set, password set\n")
    assert out.count("-----BEGIN SSH HOST KEY KEYS-----\n" + make_key(7)) == count
    assert main(["--root", str(tree), "status", "--console", "--json"]) == 2
