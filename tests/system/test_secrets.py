"""A marker password and marker user-data through every command and failure: where do they turn up?"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import Dict, Iterator, List

import pytest
from support.faulty_csagent import disguise
from support.requirements import require
from support.samples import INSTANCE, make_key
from support.secret_search import SABOTEUR, Box, Ran, forms, leaks, stop, until

from csagent.apply import libcrypt
from csagent.lab import drive
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.model import Secret

PYTHON = sys.executable
# Every one of the usual ways of quoting changes something in it; the base64 alphabets differ too.
PASSWORD = "marker-Pa55\"<&'\\%41+/é?~EXAMPLE"
LATER = "marker-L4ter\"<&'\\%41+/ü?~EXAMPLE"
MARKER = "marker-us3r-data\"<&'\\%41+/é?~EXAMPLE"
USER_DATA = f"#!/bin/sh\necho {MARKER}\n".encode()
CLOUD = Cloud(
    instance_id=INSTANCE,
    hostname="web01",
    ssh_keys=(make_key(1),),
    password=PASSWORD,
    user_data=USER_DATA,
)
KEYS = ("hostname", "instance_id", "ssh_keys", "network", *sorted(CLOUD.tree()))
STORE = f"var/lib/csagent/instances/{INSTANCE}.user-data"

PASSWORDS = {
    f"{which}, {name}": form
    for which, secret in (("password", PASSWORD), ("later password", LATER))
    for name, form in forms(secret.encode()).items()
}
DIGESTS = ("md5", "sha1", "sha512")
DATA = {
    **{f"user-data marker, {name}": form for name, form in forms(MARKER.encode()).items()},
    # Its SHA-256 is a field of `fetch` and `status`.
    **{
        f"user-data, {name}": form
        for name, form in forms(USER_DATA).items()
        if name.split(",")[0].split(" ")[0] in DIGESTS
    },
}
EVERYTHING = {**PASSWORDS, **DATA}


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    require(("unshare", "nsenter", "ip", "mount", "strace", "chpasswd"), "runs csagent in a box")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box of its own for each test."""
    made = Box(tmp_path / "box")
    yield made
    made.close()


@contextlib.contextmanager
def router_in(box: Box, cloud: Cloud = CLOUD) -> Iterator[LabRouter]:
    """A virtual router on the box's loopback."""
    router = LabRouter(cloud)
    box.namespace.call(router.start)
    try:
        yield router
    finally:
        router.stop()


def places(router: LabRouter) -> List[str]:
    return ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]


def hash_of(box: Box) -> str:
    (line,) = [one for one in (box.upper / "etc/shadow").read_text().split("\n") if one.startswith("root:")]
    return line.split(":")[1]


def is_set(box: Box, password: str) -> bool:
    return bool(libcrypt.matches(Secret(password.encode()), hash_of(box)))


def found_in(box: Box, *runs: Ran) -> List[str]:
    """Where secrets turned up, but for the one store that is there to hold user-data."""
    where: List[str] = []
    for number, run in enumerate(runs):
        where += [f"stdout of run {number}: {name}" for name in leaks(run.out, EVERYTHING)]
        where += [f"stderr of run {number}: {name}" for name in leaks(run.err, EVERYTHING)]
    for path in box.written():
        name = str(path.relative_to(box.upper))
        searched = EVERYTHING
        if name == STORE:
            searched = PASSWORDS
            if stat.S_IMODE(path.stat().st_mode) != 0o600 or path.stat().st_uid != 0:
                where.append(f"{name} is not root's alone")
        where += [f"/{name}: {form}" for form in leaks(path.read_bytes(), searched)]
        where += [f"the name of /{name}: {form}" for form in leaks(os.fsencode(name), EVERYTHING)]
    executions = box.executions()
    assert b"execve(" in executions, "strace has seen nothing"
    where += [f"argv, environment or a socket's name: {name}" for name in leaks(executions, EVERYTHING)]
    lines = [line for line in executions.split(b"\n") if b" connect(" in line]
    where += [f"not searched: {line[:80]!r}" for line in lines if b"/run/systemd/journal" in line]
    where += [f"syslog: {name}" for name in leaks(b"\n".join(box.logged), EVERYTHING)]
    return where


# --- the search itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_the_search_finds_what_is_planted(name: str) -> None:
    """Each form is found in the middle of other bytes, and in nothing else."""
    planted = b"\0before " + EVERYTHING[name] + b" after\n"
    assert name in leaks(planted, EVERYTHING)
    assert not leaks(b"\0before  after\n", EVERYTHING)


@pytest.mark.parametrize("offset", range(3))
def test_the_search_finds_base64_at_any_offset(offset: int) -> None:
    """What stands before and behind the secret changes its base64; a part of it stays."""
    whole = b"x" * (30 + offset) + PASSWORD.encode() + b"y" * 20
    assert leaks(base64.b64encode(whole), PASSWORDS) == [f"password, base64 at {offset}"] or len(
        leaks(base64.b64encode(whole), PASSWORDS)
    ) in (1, 2)
    assert f"password, base64url at {offset}" in leaks(base64.urlsafe_b64encode(whole), PASSWORDS)


def test_the_audit_finds_what_is_planted(box: Box) -> None:
    """A file anywhere, an argument, an environment variable and standard output are all searched."""
    encoded = base64.b64encode(b"xx" + PASSWORD.encode()).decode()
    script = 'printf %s "$0" > /dev/shm/a; printf %s "$0" > /var/tmp/b; exec env LEAK="$0" true -m csagent'
    run = box.run("sh", "-c", script, PASSWORD)
    box.csagent("--version")
    where = found_in(box, run, Ran(0, encoded.encode(), MARKER.encode()))
    for expected in (
        "/dev/shm/a: password, text",
        "/var/tmp/b: password, text",
        "stdout of run 1: password, base64 at 2",
        "stderr of run 1: user-data marker, text",
    ):
        assert expected in where
    lines = box.executions().split(b"\n")
    assert [line for line in lines if b"true" in line and b"LEAK=" + PASSWORD.encode() in line]


# --- every command --------------------------------------------------------------------------------


def test_every_command_at_the_highest_verbosity(box: Box) -> None:
    """Nothing in any output, file, argv or environment; `fetch --show-secrets` says it, on stdout only."""
    runs: List[Ran] = []
    with router_in(box) as router:
        where = places(router)
        for words in (
            ["discover", "-vv"],
            ["discover", "--json"],
            ["-vv", "fetch", *where],
            ["fetch", "--json", *where],
            ["-vv", "fetch", "--save", "/saved", *where],
            ["-vv", "plan", *where],
            ["plan", "--json", *where],
        ):
            runs.append(box.csagent(*words))
            assert runs[-1].code == 0, (words, runs[-1])
        saved = {path: path.read_bytes() for path in box.written() if "saved" in path.parts}
        assert {stat.S_IMODE(path.stat().st_mode) for path in saved} == {0o600}
        assert [path.name for path, raw in saved.items() if leaks(raw, DATA)] == ["user-data"]
        assert not leaks(b"".join(saved.values()), PASSWORDS)
        for path in saved:
            path.unlink()
        shown = box.csagent("fetch", "--show-secrets", *where)
        assert PASSWORD.encode() in shown.out and not leaks(shown.err, EVERYTHING)
        runs.append(box.csagent("-vv", "apply", *where))
        assert runs[-1].code == 0 and router.acknowledged and is_set(box, PASSWORD)
        runs += [box.csagent("-vv", "status"), box.csagent("status", "--json")]
        script = 'for key in "$@"; do ' + f"{PYTHON} -m csagent query $key; done"
        runs.append(box.run("sh", "-c", script, "sh", *KEYS))
        assert runs[-1].out.count(b"\n") >= len(KEYS) - 3  # two have no value, each of the others a line
        assert box.csagent("query", "user_data").out == USER_DATA
        runs.append(box.csagent("apply", "--json", *where))
    assert found_in(box, *runs) == []


def test_the_daemon(box: Box) -> None:
    """A boot, a reset, a reload and the end: nothing in its log, nor in what it tells systemd."""
    heard: List[bytes] = []

    def listener() -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind("\0csagent-test")
        return made

    notices = box.namespace.call(listener)
    threading.Thread(target=lambda: hear(notices, heard), daemon=True).start()
    with router_in(box) as router, contextlib.closing(notices):
        tell = [str(SABOTEUR), "csagent.sources.checks:router_news", "tell", disguise(b"-"), "--"]
        words = ["env", "NOTIFY_SOCKET=@csagent-test", PYTHON, *tell, "-vv", "daemon"]
        with box.background(*words, *places(router)) as process:
            assert until(lambda: len(router.acknowledged) == 1)
            (pid, *_) = box.pids(f"{PYTHON} {SABOTEUR}")
            router.change(password=LATER)
            os.kill(pid, signal.SIGHUP)
            assert until(lambda: len(router.acknowledged) == 2)
            assert until(lambda: any(b"RELOADING" in one for one in heard))
            # The acknowledgement is not the pass's last word: SIGTERM may be before that.
            assert until(lambda: any(b"password applied" in one for one in heard))
            stop(pid)
            assert process.wait(600) == 0
    assert is_set(box, LATER)
    assert any(b"password changed for root" in line for line in box.logged)  # so that syslog is heard
    output = (box.directory / "background").read_bytes()
    assert b"password applied" in output
    assert b"dumpable 0, cores (0, 0)" in output and b"dumpable 1" not in output
    assert any(b"password applied" in one for one in heard)
    assert found_in(box, Ran(0, output, b"\n".join(heard))) == []


def hear(notices: socket.socket, heard: List[bytes]) -> None:
    with contextlib.suppress(OSError):
        while True:
            heard.append(notices.recv(65536))


# --- failures -------------------------------------------------------------------------------------

WIRE = PASSWORD.encode()
OK = b"HTTP/1.0 200 OK\r\nServer: CloudStack Password Server\r\n"
REPLIES = {
    "several lines": OK + b"\r\n" + WIRE + b"\nsecond line\n",
    "html": OK + b"\r\n<html><body>" + WIRE + b"</body></html>",
    "too long": OK + b"\r\n" + WIRE * 40,
    "control characters": OK + b"\r\n" + WIRE + b"\x07\x1b[0m",
    "not utf-8": OK + b"\r\n" + WIRE + b"\xff\xfe",
    "no http": b"HTTP/" + WIRE + b"\r\n\r\n" + WIRE,
    "in the header": OK + WIRE + b": " + WIRE + b"\r\nContent-Length: " + WIRE + b"\r\n\r\n",
    "in the status": b"HTTP/1.0 500 " + WIRE + b"\r\n\r\n" + WIRE,
    "cut short": OK + b"Content-Length: 400\r\n\r\n" + WIRE,
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + WIRE,
    "redirect": b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1/" + WIRE + b"\r\n\r\n",
}


class Saying:
    """A server that says one thing to everybody; on every port it was told to, one thing each."""

    def __init__(self, box: Box, replies: Dict[str, bytes]) -> None:
        self.ports: Dict[str, int] = {}
        self.listeners: List[socket.socket] = []
        for name, reply in replies.items():
            listener = box.namespace.call(lambda: socket.create_server(("127.0.0.1", 0)))
            self.ports[name] = listener.getsockname()[1]
            self.listeners.append(listener)
            threading.Thread(target=self._serve, args=(listener, reply), daemon=True).start()

    @staticmethod
    def _serve(listener: socket.socket, reply: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)

    def close(self) -> None:
        for listener in self.listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def test_what_a_password_server_says_is_never_repeated(box: Box) -> None:
    """Refused for its form, a reply with the password in it is not quoted; nor in the metadata's place."""
    runs = []
    with router_in(box) as router, contextlib.closing(Saying(box, REPLIES)) as saying:
        for port in saying.ports.values():
            at = ["--router", f"127.0.0.1:{router.port}", "--password-port", str(port), "--wait", "0"]
            runs.append(box.csagent("-vv", "apply", *at))
            assert router.acknowledged == []
        # --router with the port of the password server, as somebody is bound to type one day.
        port = saying.ports["several lines"]
        runs.append(box.csagent("-vv", "fetch", "--router", f"127.0.0.1:{port}", "--wait", "0"))
        runs.append(box.csagent("status", "--json"))
    assert len(runs) == len(REPLIES) + 2
    assert found_in(box, *runs) == []


CHPASSWD = {
    "echoes": "cat >&2; exit 1",
    "echoes quoted": 'while read -r line; do printf "chpasswd: \'%q\'\\n" "$line" >&2; done; exit 1',
    "echoes a part": "head -c 20 >&2; exit 1",
    "lies": "cat >/dev/null; exit 0",
    "echoes and lies": "cat; exit 0",
    "crashes": "cat >/dev/null; kill -SEGV $$",
    "hangs": "cat >&2; exec sleep 60",
}


@pytest.mark.parametrize("name", list(CHPASSWD))
def test_chpasswd_that_fails(box: Box, name: str) -> None:
    """Whatever it prints, the reason of the failure does not have it; the router is not told."""
    fake = box.upper / "usr/sbin/chpasswd"
    box.run("rm", "/usr/sbin/chpasswd")
    box.run("install", "-m", "0755", "/dev/null", "/usr/sbin/chpasswd")
    fake.write_text("#!/bin/bash\n" + CHPASSWD[name] + "\n")
    with router_in(box) as router:
        words = ["-vv", "apply", *places(router)]
        if name == "hangs":
            code = (
                "import csagent.apply.password as p; p.CHPASSWD_TIMEOUT = 1.0; "
                f"import sys; sys.argv = ['csagent', *{words!r}]; from csagent.cli.main import entry; entry()"
            )
            run = box.run(PYTHON, "-c", code, "-m", "csagent")
        else:
            run = box.csagent(*words)
        assert router.acknowledged == []
    assert run.code == 3 and b"password failed" in run.err
    assert found_in(box, run, box.csagent("-vv", "status")) == []


def test_a_drive_with_a_wrong_checksum(box: Box, disk_path: Path) -> None:
    """The password that is refused is not shown, nor is its MD5."""
    image = disk_path / "drive.iso"  # below the box, not written in it
    checksum = {"cloudstack/password/vm-password-md5checksum.txt": b"0" * 32}
    drive.build(str(image), {**drive.files_for(CLOUD), **checksum})
    run = box.csagent("-vv", "apply", "--drive", str(image))
    assert b"md5" in (run.out + run.err).lower() and run.code in (0, 3)
    assert found_in(box, run, box.csagent("status", "--json")) == []


def test_a_full_disk_while_remembering(box: Box) -> None:
    """What could not be remembered is not left lying about, and is not acknowledged."""
    small = "mkdir -p /var/lib/csagent; mount -t tmpfs -o size=8k,mode=0700 tmpfs /var/lib/csagent"
    box.run("sh", "-c", small + "; head -c 8192 /dev/zero > /var/lib/csagent/full")
    with router_in(box) as router:
        run = box.csagent("-vv", "apply", *places(router))
        assert router.acknowledged == []
    assert run.code == 1 or b"No space left" in run.err
    left = box.run("sh", "-c", "tar -c /var/lib/csagent 2>/dev/null | cat")
    assert not leaks(left.out, EVERYTHING)
    assert found_in(box, run) == []


# --- crashes and bugs -----------------------------------------------------------------------------

# (place, whose process): each has the password in its memory when it has done its work.
PARENT = (
    "csagent.sources.checks:router_news",
    "csagent.decide:decide",
    "csagent.apply.password:set_password",
    "csagent.state.applied:save",
    "csagent.state.published:write",
)
CHILD = (
    "csagent.validation:password",
    "csagent.sources.router.trust:offers",
    "csagent.sandbox.codec:encode",
)


def sabotaged(box: Box, router: LabRouter, place: str, what: str, *, command: str = "apply") -> Ran:
    words = [PYTHON, str(SABOTEUR), place, what, disguise(PASSWORD.encode()), "--", "-vv", command]
    # Where the child is to fail there is no other to be waited for.
    return box.run(*words, *places(router), "--wait", "0" if place in CHILD else "30")


ERRORS = ("KeyError", "ValueError", "OSError", "MemoryError", "AssertionError")


@pytest.mark.parametrize("first", [0, 2])
def test_a_bug_with_the_password_in_its_text(box: Box, first: int) -> None:
    """In the parent and in the child: one line without it, and no traceback."""
    runs = []
    for number, place in enumerate((*PARENT, *CHILD)):
        error = ERRORS[(first + number) % len(ERRORS)]
        with router_in(box) as router:
            runs.append(sabotaged(box, router, place, f"raise:{error}"))
        assert b"Traceback" not in runs[-1].err, runs[-1].err
        if place in PARENT:
            assert runs[-1].code != 0 and runs[-1].err.strip(), (place, runs[-1])
        else:
            assert router.acknowledged == []
    assert found_in(box, *runs) == []


def test_no_process_that_holds_a_secret_may_dump_core(box: Box) -> None:
    """Not dumpable and without a limit to raise: a core piped to a program needs the first."""
    for command in ("apply", "fetch", "plan"):
        with router_in(box) as router:
            run = sabotaged(box, router, "csagent.sources.checks:router_news", "tell", command=command)
        assert run.err.count(b"dumpable 0, cores (0, 0)") >= 1 and b"dumpable 1" not in run.err, run.err


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGKILL])
def test_no_core_of_a_pass_that_is_shot(box: Box, number: int) -> None:
    """Killed with the password in memory, and cores allowed: neither parent nor child leaves one."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    control = box.run(PYTHON, "-c", "import os; os.kill(os.getpid(), 11)")
    assert control.code in (-11, 139)
    if not pattern.startswith(("/", "|")):
        assert box.cores(), "this machine makes no cores, so that their absence would say nothing"
    for path in box.cores():
        path.unlink()
    runs = []
    for place in ("csagent.apply.password:set_password", "csagent.state.applied:save", CHILD[1]):
        with router_in(box) as router:
            runs.append(sabotaged(box, router, place, f"signal:{int(number)}"))
    assert box.cores() == []
    assert found_in(box, *runs) == []
