"""doctor against a real virtual router: what answers, what does not, and nothing is ever acknowledged."""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from support.replace_fields import replace
from support.samples import CLOUD, INSTANCE, PASSWORD, make_key

from csagent.cli.main import main
from csagent.doctor import reach
from csagent.doctor.checks import places as slow
from csagent.lab.drive import build, files_for
from csagent.sources import observe

LIMIT = slow.SLOW
USABLE = "PermitRootLogin yes\nUsePAM yes\n"


@pytest.fixture
def machine(tree: Path) -> Path:
    """A tree in which a right password and a right key work."""
    (tree / "bin").mkdir()
    (tree / "bin/bash").write_text("")
    (tree / "bin/bash").chmod(0o755)
    (tree / "etc/ssh").mkdir()
    (tree / "etc/ssh/sshd_config").write_text(USABLE)
    (tree / "etc/ssh/ssh_host_ed25519_key").write_text("EXAMPLE")
    return tree


@pytest.fixture
def doctor(
    machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Dict[str, Any]]:
    """Run it on that tree; return the document. Only a test about a slow router has one: else we are slow."""
    monkeypatch.setattr(slow, "SLOW", 600.0)
    monkeypatch.setattr(observe, "SHORTEST", 600.0)
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 600.0)

    def run(*words: str, code: int) -> Dict[str, Any]:
        ended = main(["--root", str(machine), "doctor", "--json", "--wait", "500", *words])
        said = capsys.readouterr()
        assert (ended, said.err) == (code, ""), said.out + said.err
        assert PASSWORD not in said.out
        document: Dict[str, Any] = json.loads(said.out)
        return document

    return run


def places(lab: Any, password_port: int = 0) -> List[str]:
    return [
        "--router",
        f"{lab.address}:{lab.port}",
        "--password-port",
        str(password_port or lab.password_port),
    ]


def wrong(document: Dict[str, Any]) -> List[Dict[str, str]]:
    """The problems and warnings."""
    return [one for one in document["findings"] if one["state"] in ("problem", "warning")]


def old_key() -> str:
    """An RSA key of 1024 bits, as old key pairs have."""
    fields = [b"ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xc5" * 128]
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return f"ssh-rsa {base64.b64encode(blob).decode()} old@example"


def test_all_is_well(servers: Any, doctor: Any) -> None:
    """Router and password server answer, each with its time; exit code 0, and the password is not taken."""
    lab = servers.lab(CLOUD)
    document = doctor(*places(lab), code=0)
    assert wrong(document) == [] and document["instance_id"] == INSTANCE
    assert [(one["outcome"], one["seconds"] >= 0) for one in document["places"]] == [("ok", True)] * 2
    assert lab.acknowledged == [] and lab.waiting("127.0.0.1") == PASSWORD


def test_a_password_server_that_refuses_is_a_problem(servers: Any, doctor: Any) -> None:
    """Metadata is there, passwords are not: that is named, with its port, and what to do."""
    lab = servers.lab(CLOUD)
    port = servers.free_port()
    (one,) = wrong(doctor(*places(lab, port), code=1))
    assert one["state"] == "problem" and f"password server 127.0.0.1:{port}" in one["saw"]
    assert "refused" in one["saw"] and "csagent apply" in one["advice"]


def test_without_a_router_it_ends_with_4(servers: Any, doctor: Any) -> None:
    """Nobody listens: the outcome of each port, and that no source was found."""
    port = servers.free_port()
    document = doctor("--router", f"127.0.0.1:{port}", "--password-port", str(port), "--wait", "0", code=4)
    assert [one["area"] for one in wrong(document)] == ["router", "source"]
    assert document["verdict"] == "no source" and document["places"][0]["outcome"] == "refused"


def test_a_web_server_that_is_no_router_is_named(servers: Any, doctor: Any) -> None:
    """A login page answers everything with 200: malformed, and curl shows it."""
    peer = servers.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
    words = ["--router", f"127.0.0.1:{peer.port}", "--password-port", str(servers.free_port()), "--wait", "0"]
    one = wrong(doctor(*words, code=4))[0]
    assert "malformed" in one["saw"] and one["advice"].startswith(f"curl -i http://127.0.0.1:{peer.port}/")


def test_a_slow_router_is_a_warning(servers: Any, doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers after more than two seconds: that is what the operator waits for at every boot."""
    assert LIMIT == 2.0
    monkeypatch.setattr(slow, "SLOW", LIMIT)

    def slowly(connection: socket.socket, request: bytes) -> None:
        time.sleep(2.2 if b"instance-id" in request else 0)
        body = INSTANCE.encode() if b"instance-id" in request else b"instance-id\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    peer = servers.peer(slowly)
    lab = servers.lab(replace(CLOUD, password=None))
    words = ["--router", f"127.0.0.1:{peer.port}", "--password-port", str(lab.password_port)]
    one = wrong(doctor(*words, code=1))[0]  # on a slow machine the password server is slow, too
    assert one["state"] == "warning" and "it answers, but slowly" in one["means"] and "router" in one["saw"]


def test_an_old_key_that_sshd_refuses_is_named(servers: Any, doctor: Any, machine: Path) -> None:
    """The key that CloudStack gives is too small for this sshd: it would be written, and of no use."""
    lab = servers.lab(replace(CLOUD, ssh_keys=(old_key(),)))
    (machine / "etc/ssh/sshd_config").write_text(USABLE + "RequiredRSASize 2048\n")
    (one,) = wrong(doctor(*places(lab), code=1))
    assert (one["area"], one["state"]) == ("sshd", "problem") and "ssh-rsa key of 1024 bits" in one["saw"]
    lab.change(ssh_keys=(old_key(), make_key(1)))
    assert [one["state"] for one in wrong(doctor(*places(lab), code=1))] == ["warning"]


def test_an_offered_password_makes_sshds_refusal_a_problem(servers: Any, doctor: Any, machine: Path) -> None:
    """Nothing was applied yet, and it is clear already that the password will not open sshd."""
    lab = servers.lab(CLOUD)
    (machine / "etc/ssh/sshd_config").write_text(
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    saw = [one["saw"] for one in wrong(doctor(*places(lab), code=1))]
    assert len(saw) == 2 and saw[0].startswith("PermitRootLogin") and saw[1].startswith("PasswordAuth")
    lab.change(password=None, ssh_keys=(make_key(1),))
    assert wrong(doctor(*places(lab), code=0)) == []


def test_a_config_drive_is_a_source_too(doctor: Any, tmp_path: Path) -> None:
    """A drive with the data: its outcome and time, no word about a router, exit code 0."""
    image = tmp_path / "drive.iso"
    build(str(image), files_for(CLOUD))
    document = doctor("--drive", str(image), code=0)
    (one,) = document["places"]
    assert one["outcome"] == "ok" and one["place"].startswith("drive ") and wrong(document) == []


def test_doctor_changes_nothing(servers: Any, doctor: Any, machine: Path) -> None:
    """Not a byte, not a file more, not a time stamp in the whole tree."""

    def snapshot() -> Dict[str, Any]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in [machine, *machine.rglob("*")]
        }

    before = snapshot()
    doctor(*places(servers.lab(CLOUD)), code=0)
    assert snapshot() == before
