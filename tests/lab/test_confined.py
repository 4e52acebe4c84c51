"""What a reading child can still do once a stranger's bytes have taken it over: the real children, attacked.

The parser is replaced by the attacker, who tries everything in turn and tells how it went.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from support.peers import Peer
from support.replace_fields import replace
from support.running_daemon import PATIENCE, until

from csagent.discovery import drives, finder
from csagent.errors import CsagentError, JailError
from csagent.lab import drive as lab_drive
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.model import Candidate, Endpoint, Secret
from csagent.sandbox import broker, codec, jail, seccomp
from csagent.settings import Settings
from csagent.sources import acknowledge, jobs
from csagent.sources.drive import device
from csagent.sources.request import Options, PassRequest
from csagent.sources.router import client, egress, passwords
from csagent.system.seams import System

LABELS = ("config-2",)
HIGH = 1 << 32  # a filter compares 64 bits where the kernel takes 32
REFUSED = {"EPERM", "EACCES", "ENOSYS", "ESRCH"}
LIBC = ctypes.CDLL(None, use_errno=True)

Attempts = Dict[str, Callable[[], Any]]


@pytest.fixture(autouse=True)
def needs_the_filter() -> None:
    if seccomp.load_library() is None:
        assert not os.environ.get("CI"), "CI has libseccomp"
        pytest.skip(
            "libseccomp.so.2 is not installed: the children keep only what csagent.sandbox.jail gives"
        )


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process of the same user as the children, which has nothing to do with them."""
    identity = jail.unprivileged()
    become = {"user": identity.uid, "group": identity.gid} if identity else {}
    process = subprocess.Popen(["sleep", "3600"], **become)  # type: ignore[arg-type]
    yield process.pid
    alive = process.poll() is None
    process.kill()
    process.wait(600)
    assert alive, "the bystander was killed"


@pytest.fixture
def other() -> Iterator[Peer]:
    """A server on an address that is no candidate."""
    peer = Peer(lambda connection, _request: connection.close())
    yield peer
    peer.stop()
    assert peer.connections == 0, "somebody connected"


GETPPID = 110 if os.uname().machine == "x86_64" else 173


def called(name: str, *arguments: int) -> None:
    """A system call by its number, for which a name may stand that libseccomp knows."""
    library = ctypes.CDLL(seccomp.LIBRARY)
    number = int(name) if name.isdigit() else library.seccomp_syscall_resolve_name(name.encode())
    if LIBC.syscall(number, *[ctypes.c_long(argument) for argument in arguments]) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def tcp(address: Tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.connect(address)


def udp(address: Tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"marker", address)


def attempts(bystander: int, parent: int, other: Peer, directory: Path) -> Attempts:
    """Everything that must fail in every child."""
    address = (other.address, other.port)
    mine = str(directory / "new")
    there = str(directory / "there")
    return {
        "open /etc/shadow": lambda: open("/etc/shadow").close(),
        "read the state": lambda: os.listdir(directory / "state"),
        "read the parent's memory": lambda: open(f"/proc/{parent}/mem").close(),
        "become root": lambda: os.setresuid(0, 0, 0),
        "create a file": lambda: open(mine, "x").close(),
        "create a file in /tmp": lambda: open("/tmp/csagent-attack", "x").close(),
        "create a file in /dev/shm": lambda: open("/dev/shm/csagent-attack", "x").close(),
        "open a file for writing": lambda: open(there, "r+").close(),
        "empty a file": lambda: os.open(there, os.O_RDONLY | os.O_TRUNC),
        "truncate a file": lambda: os.truncate(there, 0),
        "remove a file": lambda: os.unlink(there),
        "rename a file": lambda: os.rename(there, mine),
        "link a file": lambda: os.link(there, mine),
        "make a symbolic link": lambda: os.symlink("/etc/shadow", mine),
        "make a directory": lambda: os.mkdir(mine),
        "make a FIFO": lambda: os.mkfifo(mine),
        "change a mode": lambda: os.chmod(there, 0o777),
        "change a mode by a younger call": lambda: called("452", 0, 0, 0, 0),
        "give a file an attribute by a younger call": lambda: called("463", 0, 0, 0, 0, 0, 0),
        "take one away by a younger call": lambda: called("466", 0, 0, 0, 0),
        "give a file flags by a younger call": lambda: called("469", 0, 0, 0, 0, 0),
        "take on another profile by a younger call": lambda: called("460", 0, 0, 0, 0),
        "change a mount by a younger call": lambda: called("467", 0, 0, 0, 0, 0),
        "change a time": lambda: os.utime(there),
        "signal the parent": lambda: os.kill(parent, signal.SIGTERM),
        "trace a process": lambda: called("ptrace", 16, bystander, 0, 0),
        "read a process's memory": lambda: called("process_vm_readv", bystander, 0, 0, 0, 0, 0),
        "leave the process group": os.setsid,
        "leave the namespaces": lambda: called("unshare", 0x10000000),
        "mount": lambda: called("mount", 0, 0, 0, 0, 0),
        "be debugged": lambda: called("prctl", 4, 1, 0, 0, 0),
        "be debugged, by a larger number": lambda: called("prctl", HIGH | 4, 1, 0, 0, 0),
        "outlive the parent": lambda: called("prctl", 1, 0, 0, 0, 0),
        "outlive the parent, by a larger number": lambda: called("prctl", HIGH | 1, 0, 0, 0, 0),
        "type for somebody": lambda: called("ioctl", 0, HIGH | 0x5412, 0),
        "eject a drive": lambda: called("ioctl", 0, 0x5309, 0),
        "lock a drive": lambda: called("ioctl", 0, 0x5329, 1),
        "speak SCSI": lambda: called("ioctl", 0, 0x2285, 0),
        "speak SCSI in the oldest way": lambda: called("ioctl", 0, 1, 0),
        "send a drive a packet": lambda: called("ioctl", 0, 0x5393, 0),
        "lock a drive's door": lambda: called("ioctl", 0, 0x5380, 0),
        "set a disk read-only": lambda: called("ioctl", 0, 0x125D, 0),
        "freeze a file system": lambda: called("ioctl", 0, HIGH | 0xC0045877, 0),
        "take a loop device away": lambda: called("ioctl", 0, 0x4C01, 0),
        "speak NVMe": lambda: called("ioctl", 0, 0xC0484E41, 0),
        "lock a file that others lock": lambda: fcntl.flock(os.open(there, os.O_RDONLY), fcntl.LOCK_EX),
        "lock a range of it": lambda: fcntl.fcntl(os.open(there, os.O_RDONLY), fcntl.F_SETLK, b"\0" * 32),
        "be asked before others open it": lambda: fcntl.fcntl(0, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        "slow a process down": lambda: os.setpriority(os.PRIO_PROCESS, bystander, 19),
        "bind a process to a processor": lambda: os.sched_setaffinity(bystander, {0}),
        "make a process idle": lambda: os.sched_setscheduler(bystander, os.SCHED_IDLE, os.sched_param(0)),
        "have a process signalled": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, bystander),
        "choose that signal": lambda: fcntl.fcntl(0, 10, 9),
        "limit another process": lambda: called("prlimit64", bystander, 7, 0, 0),
        "use io_uring": lambda: called("io_uring_setup", 1, 0),
        "load a BPF program": lambda: called("bpf", 0, 0, 0),
        "use a keyring": lambda: called("keyctl", 0, -3, 0, 0, 0),
        "connect over TCP": lambda: tcp(address),
        "use IPv6": lambda: called("socket", HIGH | socket.AF_INET6, 1, 0),
        "send a datagram": lambda: udp(address),
        "open a raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "use vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    }


def attempts_while_reading(bystander: int) -> Attempts:
    """What a child that reads must not do, and one that finds may have to."""
    return {
        "signal a process of its user": lambda: os.kill(bystander, signal.SIGTERM),
        "signal a process's thread": lambda: called("tgkill", bystander, bystander, 15),
        "signal its group": lambda: os.killpg(0, signal.SIGTERM),
        "start a process": os.fork,
        "run a command": lambda: os.execv("/bin/true", ["true"]),
        "send a datagram to a service": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
        "keep a hidden file": lambda: os.memfd_create("x"),
        "talk to the system's services": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "talk to the kernel's routing": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    }


def attack(tries: Attempts) -> None:
    """Try all of it; the outcome leaves as the text of an error."""
    outcome: Dict[str, str] = {}
    for name, one in tries.items():
        try:
            one()
            outcome[name] = "done"
        except OSError as error:
            outcome[name] = errno.errorcode.get(error.errno or 0, repr(error))
    raise CsagentError(json.dumps(outcome))


def outcomes(child: jail.Child) -> Dict[str, str]:
    """How it went, by what was tried."""
    documents: List[Any] = []
    while not child.finished:
        documents += child.collect()
    told: Dict[str, str] = json.loads(documents[-1]["died"])
    return told


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A directory in which the children's user could do everything."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    (tmp_path / "there").write_text("marker")
    (tmp_path / "there").chmod(0o666)
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
def tries(bystander: int, other: Peer, ground: Path) -> Attempts:
    return attempts(bystander, os.getpid(), other, ground)


def check(told: Dict[str, str], tried: Attempts) -> None:
    if os.geteuid() != 0:
        told = {**told, "read the state": "EACCES"}  # the children are the user who started them
    wrong = {name: how for name, how in told.items() if how not in REFUSED}
    assert (wrong, set(told)) == ({}, set(tried))


def test_the_drive_reader(
    tries: Attempts, bystander: int, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that parses a drive can neither read nor change, signal, start or reach anything."""
    tries.update(attempts_while_reading(bystander))
    lab_drive.build_tree(str(ground / "drive"), lab_drive.files_for(Cloud(instance_id="i-2-3-VM")))
    monkeypatch.setattr(device, "read", lambda *_args, **_kwargs: attack(tries))
    child = jobs.start_drive(PassRequest(System(), Settings()), str(ground / "drive"), "", given=True)
    check(outcomes(child), tries)


def test_the_drive_scout(tries: Attempts, bystander: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can one that looks at the labels of the block devices."""
    tries.update(attempts_while_reading(bystander))
    monkeypatch.setattr(drives, "drives", lambda *_args, **_kwargs: attack(tries))
    check(outcomes(jobs.start_scout(PassRequest(System(), Settings()))), tries)


def test_the_finder(tries: Attempts, ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads leases may ask the DHCP clients' own commands, and nobody over the network."""
    monkeypatch.setattr(finder, "look", lambda *_args, **_kwargs: attack(tries))
    monkeypatch.setattr(jobs, "FINDER_PATIENCE", PATIENCE)
    tree = System.at(str(ground))
    child = jobs.start_router(PassRequest(tree, Settings(), wait=0.0), PATIENCE)
    check(outcomes(child), tries)
    with pytest.raises(JailError) as caught:
        jobs.discover(tree, Settings())
    assert '"open /etc/shadow": "E' in str(caught.value)


def test_the_router_reader(
    tries: Attempts, bystander: int, other: Peer, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that speaks with the candidates reaches them, and nobody else, not even through the broker."""
    tries.update(attempts_while_reading(bystander))
    candidate = Peer(lambda connection, _request: connection.close())
    deadline = System().clock.monotonic() + PATIENCE
    given: List[System] = []

    def through(address: str, port: int) -> Callable[[], Any]:
        return lambda: given[0].dialer.connect(Endpoint(address, port), deadline)

    tries["connect through the broker"] = through(other.address, other.port)
    tries["connect through the broker to another machine"] = through("192.0.2.77", candidate.port)
    tries["from another address"] = lambda: given[0].dialer.connect(
        Endpoint(candidate.address, candidate.port, "127.0.0.9"), deadline
    )
    tries["over another NIC"] = lambda: given[0].dialer.connect(
        Endpoint(candidate.address, candidate.port, None, "lo"), deadline
    )

    def anew(send: Callable[[socket.socket], Any]) -> Callable[[], Any]:
        """By way of a connection that the candidate has closed."""

        def work() -> None:
            with through(candidate.address, candidate.port)() as connection:
                send(connection)

        return work

    there = (other.address, other.port)
    tries["connect anew by sending"] = anew(lambda one: one.sendto(b"x", 0x20000000, there))
    tries["connect anew by a flag"] = anew(lambda one: one.send(b"x", 0x20000000))
    tries["connect anew by a message"] = anew(lambda one: one.sendmsg([b"x"], [], 0x20000000, there))

    def look(question: client.Question) -> None:
        given.append(question.system)
        through(candidate.address, candidate.port)().close()
        attack(tries)

    monkeypatch.setattr(client, "look", look)
    options = Options(router=(candidate.address, candidate.port), password_port=candidate.port)
    try:
        child = jobs.start_router(PassRequest(System.at(str(ground)), Settings(), options, 0.0), 20.0)
        check(outcomes(child), tries)
        until(lambda: candidate.connections >= 1)  # the connection is there, its server may not have been
    finally:
        candidate.stop()


def test_the_acknowledging_child(
    tries: Attempts, bystander: int, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor can the one that acknowledges do anything but reach the servers that offered the password."""
    tries.update(attempts_while_reading(bystander))
    told: List[Dict[str, str]] = []

    def tell(text: str) -> None:
        told.append(json.loads(text))

    class Child(jail.Child):
        def result(self) -> Any:
            tell(self._last["died"])
            return super().result()

    monkeypatch.setattr(jail, "Child", Child)
    monkeypatch.setattr(acknowledge, "PATIENCE", PATIENCE)
    monkeypatch.setattr(passwords, "acknowledge", lambda *_args: attack(tries))
    places = acknowledge.acknowledge(
        System.at(str(ground)), Secret("marker-EXAMPLE"), (Endpoint("127.0.0.1", 9, None),)
    )
    assert places[0].outcome == "failed"
    check(told[0], tries)


@pytest.mark.parametrize("again", [False, True])
def test_the_broker_takes_candidates_once(again: bool) -> None:
    """A second list of candidates is no request it understands: it ends, and so does the child."""
    peer = Peer(lambda connection, _request: connection.close())
    candidate = jobs.given_candidates(Options(router=("127.0.0.1", peer.port)))

    def work(filters: seccomp.Filters, _say: jail.Send) -> str:
        known = broker.fork(filters, egress.CandidatesOnly(System(), (1, peer.port), given=True))
        known.admit(codec.encode((replace(candidate[0], port=1),)))
        if again:
            known.admit(codec.encode(candidate))
        try:
            known.connect(Endpoint("127.0.0.1", peer.port), System().clock.monotonic() + PATIENCE)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "connected"

    try:
        if again:
            with pytest.raises(JailError, match="ended without an answer"):
                jail.run(
                    jail.Job("test", System(), seccomp.load_library, work, jail.READER, jail.unprivileged()),
                    PATIENCE,
                )
        else:
            told = jail.run(
                jail.Job("test", System(), seccomp.load_library, work, jail.READER, jail.unprivileged()),
                PATIENCE,
            )
            assert told == "EACCES"
        assert peer.connections == 0
    finally:
        peer.stop()


def test_without_the_filter_the_main_job_still_works(monkeypatch: pytest.MonkeyPatch, ground: Path) -> None:
    """On a machine without libseccomp the children connect for themselves."""
    monkeypatch.setattr(seccomp, "load_library", lambda: None)
    peer = Peer(lambda connection, _request: connection.close())
    try:
        options = Options(router=(peer.address, peer.port), password_port=peer.port)
        tree = System.at(str(ground))
        child = jobs.start_router(PassRequest(tree, Settings(), options, 0.0), PATIENCE)
        while not child.finished:
            child.drain()
        assert child.result()["readings"] == [] and peer.connections >= 1
    finally:
        peer.stop()


HEAVY = (
    "requests urllib3 pycdlib yaml email http.client pyudev netifaces csagent.sources.router.http "
    "csagent.sources.drive.device "
    "csagent.sources.router.metadata csagent.sources.router.passwords csagent.discovery.leases.dhclient"
)


def test_roots_process_does_not_import_what_parses(ground: Path, tmp_path: Path) -> None:
    """A whole apply from a router and a drive leaves the parsing libraries, and ours, to the children."""
    cloud = Cloud(instance_id="i-2-3-VM", hostname="web-1", password="marker-EXAMPLE")
    lab_drive.build_tree(str(tmp_path / "drive"), lab_drive.files_for(cloud))
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "root").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/shadow").write_text("root:*:20000:0:99999:7:::\n")
    served = LabRouter(cloud, address="127.0.0.1", port=0, password_port=0)
    served.start()
    try:
        words = ["--root", str(root), "apply", "-q", "--drive", str(tmp_path / "drive")]
        words += ["--router", f"127.0.0.1:{served.port}", "--password-port", str(served.password_port)]
        code = (
            "import sys; from csagent.cli.main import main\n"
            f"code = main({words!r})\n"
            f"print(code, [name for name in {HEAVY.split()!r} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
        )
        assert (done.stdout, done.stderr) == ("0 []\n", "")
        assert len(served.acknowledged) == 1
    finally:
        served.stop()


def test_what_leases_name_is_no_way_into_this_machine() -> None:
    """Whatever a lease parser says: not loopback, not another port, not without end."""
    peer = Peer(lambda connection, _request: connection.close())
    found = replace(jobs.given_candidates(Options(router=("127.0.0.1", peer.port)))[0], kind="gateway")

    def work(filters: seccomp.Filters, _say: jail.Send) -> List[str]:
        told = []
        for candidate, ports in ((found, (peer.port,)), (replace(found, address="192.0.2.1"), (80, 8080))):
            known = broker.fork(filters, egress.CandidatesOnly(System(), ports, given=False))
            known.admit(codec.encode((candidate,)))
            try:
                known.connect(Endpoint(candidate.address, peer.port), System().clock.monotonic() + PATIENCE)
                told.append("connected")
            except OSError as error:
                told.append(errno.errorcode[error.errno or 0])
        return told

    try:
        assert (
            jail.run(
                jail.Job("test", System(), seccomp.load_library, work, jail.READER, jail.unprivileged()),
                PATIENCE,
            )
            == ["EACCES"] * 2
        )
        assert peer.connections == 0
    finally:
        peer.stop()


@pytest.mark.parametrize("given", [False, True])
def test_an_address_of_this_machine_is_for_the_command_line_only(
    monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    """It looks like any other: only the kernel's route tells that it is one of ours."""
    monkeypatch.setattr(egress.netlink, "route_to", lambda *_: egress.netlink.Way(True, "lo"))
    candidate = Candidate("10.9.0.1", "server-identifier", "", port=80)
    policy = egress.CandidatesOnly(System(), (80, 8080), given=given)
    policy.admit(codec.encode((candidate,)))
    if given:
        policy.check(candidate.metadata_endpoint())
    else:
        with pytest.raises(OSError) as refused:
            policy.check(candidate.metadata_endpoint())
        assert refused.value.errno == errno.ELOOP


def test_calls_that_nobody_knows_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is younger than csagent is not there for a child, whatever the kernel makes of it."""
    monkeypatch.setattr(seccomp, "YOUNGER", [GETPPID])

    def work(filters: seccomp.Filters, _say: jail.Send) -> int:
        seccomp.restrict_if_possible(filters)
        LIBC.syscall(GETPPID)
        return ctypes.get_errno()

    job = jail.Job("test", System(), seccomp.load_library, work, jail.DRIVE)
    assert jail.run(job) == errno.ENOSYS


def test_a_second_filter_that_fails_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half confined is not confined: what was to be read is not."""
    loaded = seccomp.Filters.load
    half = lambda self, rules: rules is not seccomp.refused_while_parsing and loaded(self, rules)  # noqa: E731
    monkeypatch.setattr(seccomp.Filters, "load", half)
    child = jobs.start_scout(PassRequest(System(), Settings()))
    while not child.finished:
        child.drain()
    with pytest.raises(JailError, match="refuses a system call filter"):
        child.result()


def test_without_the_filter_discover_says_so(monkeypatch: pytest.MonkeyPatch, ground: Path) -> None:
    """Nothing is decided silently."""
    monkeypatch.setattr(seccomp, "load_library", lambda: None)
    assert any("libseccomp" in note for note in jobs.discover(System.at(str(ground)), Settings()).notes)
    monkeypatch.undo()
    assert not any("libseccomp" in note for note in jobs.discover(System.at(str(ground)), Settings()).notes)
