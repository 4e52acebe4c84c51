"""The simulated virtual router: what it serves, and the command that starts it."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from support.printed_lines import line_of

from csagent.errors import CsagentError, UsageError
from csagent.lab import cloud as clouds
from csagent.lab import router_command as lab_router
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.validation import instance_id, ssh_keys

MARKER = "marker-Pw1EXAMPLE"


def get(lab: LabRouter, *paths: str) -> List[Tuple[int, bytes]]:
    """Over one connection."""
    connection = http.client.HTTPConnection(lab.address, lab.port, timeout=600)
    answers = []
    for path in paths:
        connection.request("GET", path)
        reply = connection.getresponse()
        answers.append((reply.status, reply.read()))
    connection.close()
    return answers


def test_metadata_is_laid_out_as_on_a_vr(servers: Any) -> None:
    """Listing only with its slash, user-data only without, the older paths, HTML for what is not there."""
    lab = servers.lab(Cloud(user_data=b"\0hello", metadata={"role": "web", "nothing": ""}))
    listing, bare, data, slash, key, old, upper, empty = get(
        lab,
        "/latest/meta-data/",
        "/latest/meta-data",
        "/latest/user-data",
        "/latest/user-data/",
        "/latest/meta-data/role",
        "/latest/role",
        "/2009-04-04/meta-data/",
        "/latest/meta-data/nothing",
    )
    assert listing == (200, b"local-hostname\ninstance-id\nvm-id\npublic-keys\nrole\nnothing\n")
    assert [bare[0], slash[0], upper[0]] == [404, 404, 404]
    assert b"<html>" in bare[1]
    assert (data, key, old, empty) == ((200, b"\0hello"), (200, b"web"), (200, b"web"), (200, b""))


def test_the_default_cloud_is_a_valid_vm() -> None:
    """`{}` describes a VM that an agent accepts."""
    cloud = clouds.describe({}, "x")
    assert cloud == Cloud()
    assert instance_id(cloud.instance_id) == cloud.instance_id
    assert ssh_keys("\n".join(cloud.ssh_keys).encode()) == (cloud.ssh_keys, ())
    assert "EXAMPLE" not in repr(cloud).replace("RVhBTVBMRUVYQU1QTEVF", "").replace("me@example", "")


def test_the_example_is_what_it_says(tmp_path: Path) -> None:
    """The printed example loads, and its keys and VMs are there."""
    path = tmp_path / "cloud.yaml"
    path.write_text(clouds.EXAMPLE)
    cloud = clouds.load(str(path))
    assert (cloud.hostname, cloud.metadata["role"], cloud.password) == ("web-01", "frontend", "EXAMPLEpass7")
    assert ssh_keys("\n".join(cloud.ssh_keys).encode()) == (cloud.ssh_keys, ())
    assert cloud.user_data == b"#!/bin/sh\necho hello\n"
    assert cloud.seen_from("127.0.0.2").hostname == "db-01"
    assert cloud.seen_from("127.0.0.3").hostname == "web-01"


def test_json_needs_no_yaml(tmp_path: Path) -> None:
    """A JSON description is read without importing yaml."""
    path = tmp_path / "cloud.json"
    path.write_text(json.dumps({"hostname": "a", "user_data_base64": "AP8=", "metadata": {"x": None}}))
    code = (
        "import sys; from csagent.lab import cloud; made = cloud.load(sys.argv[1]);"
        "print(made.hostname, made.user_data, repr(made.metadata['x']), 'yaml' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "a b'\\x00\\xff' '' False\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", None),
        ("# nothing", None),
        ("{}", None),
        ("[1]", "must be a mapping"),
        ("hostnam: x", "unknown key"),
        ("ssh_keys: x", "must be a list"),
        ("metadata: x", "must be a mapping"),
        ("vms: {x: {}}", "not an IPv4 address"),
        ("vms: {127.0.0.2: {vms: {}}}", "unknown key"),
        ("user_data_base64: '%%%'", "not base64"),
        ("password: {a: marker}", "password must be text"),
        ("a: [", "line 1: neither JSON nor YAML"),
        ("password: 'marker", "neither JSON nor YAML"),
    ],
)
def test_a_bad_description_is_one_line(tmp_path: Path, text: str, reason: Any) -> None:
    """It names the file and what is wrong, and never the password."""
    path = tmp_path / "cloud.yaml"
    path.write_text(text)
    if reason is None:
        assert clouds.load(str(path)) == Cloud()
        return
    with pytest.raises(UsageError, match=reason) as caught:
        clouds.load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value) and "marker" not in str(caught.value)


def test_a_missing_description_is_one_line(tmp_path: Path) -> None:
    """No file, no traceback."""
    with pytest.raises(CsagentError, match="No such file"):
        clouds.load(str(tmp_path / "none.yaml"))


def test_a_reset_offers_the_new_password(servers: Any) -> None:
    """An acknowledged password is gone until another one is set; other changes do not bring it back."""
    lab = servers.lab(Cloud(password=MARKER))
    lab.answer("saved_password", "127.0.0.1")
    assert lab.waiting("127.0.0.1") is None
    lab.change(hostname="other")
    assert lab.waiting("127.0.0.1") is None
    lab.change(password=MARKER + "2")
    assert lab.waiting("127.0.0.1") == MARKER + "2"
    lab.change(password=MARKER)
    assert lab.waiting("127.0.0.1") == MARKER


def test_it_starts_again_on_its_ports(servers: Any) -> None:
    """Stopped and started, it listens where it did; kept-alive connections do not survive."""
    lab = LabRouter()
    lab.start()
    ports = lab.port, lab.password_port
    connection = http.client.HTTPConnection(lab.address, lab.port, timeout=600)
    connection.request("GET", "/latest/instance-id")
    connection.getresponse().read()
    lab.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.request("GET", "/latest/instance-id")
        connection.getresponse()
    connection.close()
    lab.start()
    try:
        assert (lab.port, lab.password_port) == ports
        assert get(lab, "/latest/instance-id")[0][0] == 200
    finally:
        lab.stop()


# --- the command ------------------------------------------------------------------------------------

CODE = (
    "import argparse, sys\nfrom csagent.lab import router_command\nfrom csagent.errors import CsagentError\n"
    "parser = argparse.ArgumentParser()\nrouter_command.add_arguments(parser)\n"
    "try:\n    sys.exit(router_command.run(parser.parse_args()))\n"
    "except CsagentError as error:\n    print(error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Any]:
    """`csagent lab router` as a process: (process, metadata port, password port, path of its log)."""
    running = []

    def start(*arguments: str) -> Any:
        log = tmp_path / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-u", "-c", CODE, *arguments],
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        running.append(process)
        line = line_of(process)
        words = line.partition("try: ")[2].split()
        assert words[:4] == ["csagent", "--root", "DIR", "fetch"]
        return process, int(words[5].rsplit(":", 1)[1]), int(words[7]), log

    yield start
    for process in running:
        process.kill()
        process.wait(600)
        if process.stdout is not None:
            process.stdout.close()


def fetch(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


def ask(port: int, request: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", "/", headers={"DomU_Request": request})
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_rereads_and_ends(command: Any, tmp_path: Path, number: signal.Signals) -> None:
    """It says what to run next, follows its file, logs requests without the password, and ends cleanly."""
    path = tmp_path / "cloud.yaml"
    path.write_text(f"hostname: first\npassword: {MARKER}\n")
    process, port, password_port, log = command(str(path))
    assert fetch(port, "/latest/meta-data/local-hostname") == b"first"
    assert ask(password_port, "send_my_password") == MARKER.encode()
    path.write_text("hostname: [")
    os.utime(path, (1, 1))
    wait_for(log, "going on with what it said before")
    path.write_text(f"hostname: second\npassword: {MARKER}\n")
    wait_for(log, "read again")
    assert fetch(port, "/latest/meta-data/local-hostname") == b"second"
    assert ask(password_port, MARKER) == b"bad_request"
    process.send_signal(number)
    assert process.wait(600) == 0
    text = log.read_text()
    assert 'metadata "/latest/meta-data/local-hostname" from 127.0.0.1: 200' in text
    assert "marker" not in text and "Traceback" not in text


def wait_for(log: Path, text: str) -> None:
    end = time.monotonic() + 120
    while text not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_shape_style_and_latency_are_honoured(command: Any) -> None:
    """Each option changes what is served."""
    _, port, password_port, _ = command(
        "--shape", "early-python3", "--style", "directory", "--latency", "100"
    )
    began = time.monotonic()
    assert b"public-keys/\n" in fetch(port, "/latest/meta-data/")
    assert time.monotonic() - began >= 0.1
    assert ask(password_port, "saved_password") == b""


def test_example_and_errors(capsys: Any, servers: Any) -> None:
    """--example prints a description; a port that is taken is one line that names it."""
    parser = argparse.ArgumentParser()
    lab_router.add_arguments(parser)
    assert lab_router.run(parser.parse_args(["--example"])) == 0
    assert capsys.readouterr().out == clouds.EXAMPLE
    taken: Dict[str, int] = {"port": servers.lab().port}
    with pytest.raises(CsagentError, match=f"port {taken['port']} .*in use"):
        lab_router.run(parser.parse_args(["--port", str(taken["port"])]))
