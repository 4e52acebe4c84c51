"""The support archive: what of a machine is in it, that it replays, and the file itself."""

import fnmatch
import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile

import pytest
from support.archives import NOW, archive_of, blocks, contents, put, record, run, unpack
from support.captures import CHOSEN, WHOLE, discover, named, scenarios
from support.healthy_machine import Patient
from support.replace_fields import replace
from support.samples import make_tree

from csagent.cli import doctor
from csagent.cli.discover import as_json
from csagent.cli.main import main
from csagent.discovery import finder, interfaces
from csagent.discovery.finder import look, prepare
from csagent.discovery.leases.belief import CLIENTS
from csagent.doctor import engine
from csagent.doctor.bundle import archive, bundle, raw, recorded
from csagent.doctor.bundle.redaction import Words
from csagent.errors import CsagentError, JailError, UsageError
from csagent.model import Nic, Route
from csagent.settings import Settings
from csagent.sources.request import Options
from csagent.system.seams import System
from csagent.system.tree import Tree

REPLAYED = (
    "dhcpcd-10.1.0/tricky-bytes",
    "netplan-1.2.2+systemd-networkd-262/shared",
    "networkmanager-internal-1.30.6/shared",
    "wicked-0.6.80/stale-early",
)


@pytest.fixture
def patient(tmp_path, monkeypatch):
    """A machine in good health, of which an archive is made in this process."""
    monkeypatch.setattr(raw, "gather", lambda *words: raw._Collected(words[0]).raw(*words[1:]))
    return Patient(tmp_path / "machine")


def raw_of(system, labels=("config-2",)):
    """What `raw.gather` makes, in this process."""
    return raw._Collected(system).raw(labels, Words())


# --- what replays ---


@pytest.mark.parametrize("path", named(scenarios(WHOLE) if WHOLE.is_dir() else scenarios(CHOSEN)))
def test_capture_replays(path, tmp_path):
    """Of every captured client and situation the archive gives the very answer of the capture."""
    made = raw_of(System.at(str(path)))
    unpacked = unpack(archive.pack(made.members), tmp_path / "unpacked")
    assert made.left_out == ()
    assert as_json(discover(unpacked)) == as_json(discover(path))


@pytest.mark.parametrize("name", REPLAYED)
def test_whole_command_replays(name, tmp_path, capfd):
    """The same through the command line, `tar` and all, and of the unpacked archive an archive again."""
    machine, first, second = (tmp_path / name for name in ("machine", "first.tar.gz", "second.tar.gz"))
    shutil.copytree(CHOSEN / name, machine)
    finding = {"area": "sshd", "state": "ok", "saw": "no sshd here", "means": "", "advice": ""}
    report = {"findings": [finding], "what": "machine", "version": "0.1.0", "verdict": "ok", "root": True}
    put(machine, recorded.REPORT, json.dumps(report))
    said = []
    for root, destination in ((machine, first), (tmp_path / "unpacked", second)):
        found = run(root, "discover")
        code, told = run(root, "doctor", "--bundle", destination)
        error = capfd.readouterr().err
        assert error.count("\n") == 1 and str(destination) in error and "Look before you send it" in error
        said.append((code, found, told))
        if destination == first:
            (tmp_path / "unpacked").mkdir()
            subprocess.run(["tar", "-xpf", first, "-C", tmp_path / "unpacked"], check=True, timeout=300)
    assert said[0] == said[1] and finding in said[0][2]["findings"]
    assert contents(first) == contents(second)


def test_a_machine_replays_with_all_its_findings(patient, tmp_path):
    """Doctor over the unpacked archive: the same findings in the same order, places, exit code, verdict."""
    patient.sshd("passwordauthentication yes", "passwordauthentication no")
    patient.write("/etc/hostname", "web01\n")
    examined = patient.examined()
    bundle.write(examined, str(tmp_path / "b.tar.gz"), doctor.documents)
    unpacked = unpack((tmp_path / "b.tar.gz").read_bytes(), tmp_path / "unpacked")
    code, again = run(unpacked, "doctor")
    before = doctor.as_json(examined)
    kept = ("findings", "places", "exit_code", "verdict", "summary", "first", "instance_id", "password")
    assert {name: again[name] for name in kept} == {name: before[name] for name in kept}
    assert code == 1 and again["verdict"] == "problem" and again["root"] is True


def test_only_what_must_be_parsed_again_is_raw(patient, tmp_path):
    """Of accounts, sshd, PAM, units, mounts and homes there is no file: the report has what was found."""
    for path in ("/etc/pam.d/sshd", "/etc/security/access.conf", "/etc/resolv.conf", "/etc/os-release"):
        patient.write(path, "nameserver 10.1.1.1\n")
    patient.settings = Settings(poll=600.0)
    members = archive_of(patient, tmp_path / "b.tar.gz")
    assert {name for name, content in members.items() if content} == {
        "etc/hostname",
        "_doctor/left-out.txt",
        "_doctor/report.json",
        "_doctor/report.txt",
        "etc/csagent/csagent.yaml",
        "etc/resolv.conf",
        "proc/net/route",
        "recorded.json",
        *("_commands/1-ip.txt", "_commands/2-ip.txt", "_commands/3-ip.txt", "_commands/4-systemctl.txt"),
        "run/csagent/status.json",
        "run/systemd/netif/leases/2",
        "sys/class/dmi/id/product_name",
        "sys/class/dmi/id/sys_vendor",
        "sys/class/net/eth0/address",
        "sys/class/net/eth0/carrier",
        "sys/class/net/eth0/ifindex",
    }
    assert b"sshd: ok\n" in members["_doctor/report.txt"] and b"verdict: " in members["_doctor/report.txt"]
    assert json.loads(members["_doctor/report.json"])["findings"] != []


def test_drives_of_the_machine_are_named_from_the_archive(tmp_path):
    """Labels in udev's database go along, serial numbers do not; `discover` names the drive elsewhere."""
    root = tmp_path / "machine"
    put(root, "/run/udev/control", "")
    put(root, "/sys/class/block/sr0/dev", "11:0\n")
    put(
        root,
        "/run/udev/data/b11:0",
        "S:disk/by-label/config-2\nE:ID_CDROM=1\nE:ID_SERIAL=marker-serial\n"
        "E:ID_FS_LABEL=config-2\nE:ID_FS_TYPE=iso9660\n",
    )
    system = record(root)
    found = look(system, prepare(system), ["config-2"]).drives
    assert [drive.device for drive in found] == ["/dev/sr0"]
    unpacked = unpack(archive.pack(raw_of(system).members), tmp_path / "unpacked")
    assert discover(unpacked).drives == found
    assert "marker" not in (unpacked / "run/udev/data/b11:0").read_text()


def test_name_servers_of_systemd_resolved_are_in_the_archive(tmp_path):
    """Where /etc/resolv.conf names this machine itself, elsewhere data-server. is asked of the others too."""
    root = tmp_path / "machine"
    put(root, "/etc/resolv.conf", "nameserver 10.1.1.42\n")
    put(root, "/run/systemd/resolve/resolv.conf", "nameserver 10.1.1.1\nsearch cloud.example\n")
    nics, routes = (Nic("eth0", 2, None, ("10.1.1.42",), (24,)),), (Route("eth0", "10.1.1.1", 0),)
    put(root, "/ip.json", raw.ip_addr(nics).decode())
    put(root, "/proc/net/route", raw.proc_route(routes).decode())
    put(root, "/recorded.json", json.dumps({"now": NOW, "commands": {"ip -j addr": "ip.json"}}))
    system = System.at(str(root))
    candidates = look(system, prepare(system), []).candidates
    assert any("/run/systemd/resolve/resolv.conf" in one.why for one in candidates)
    unpacked = unpack(archive.pack(raw_of(system).members), tmp_path / "unpacked")
    assert discover(unpacked).candidates == candidates


def test_clock_and_times_of_leases_are_kept(tmp_path):
    """The archive says when it was made, and a lease file is as old in it as on the machine."""
    root = tmp_path / "machine"
    put(root, "/var/lib/dhcp/dhclient.leases", blocks(), mtime=NOW - 1000)
    unpacked = unpack(archive.pack(raw_of(record(root)).members), tmp_path / "unpacked")
    assert System.at(str(unpacked)).clock.now() == NOW
    assert (unpacked / "var/lib/dhcp/dhclient.leases").stat().st_mtime == NOW - 1000


def test_nics_and_routes_are_written_as_the_kernel_says_them():
    """What was parsed, from netlink say, is parsed the same from what a replay reads."""
    nics = (Nic("eth0", 2, "02:00:4c:9f:00:05", ("10.1.1.42", "10.1.1.43"), (24,)), Nic("eth1", 3, None, ()))
    routes = (Route("eth0", "10.1.1.1", 0), Route("eth1", "10.2.2.254", 600))
    assert tuple(interfaces._from_ip_json(raw.ip_addr(nics))) == nics
    assert tuple(interfaces.parse_proc_route(raw.proc_route(routes).decode())) == routes


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(user="alice", sources=("drive",), password=False, wait=2.5, poll=0.0),
        Settings(drive_labels=("my drive", "yes", "1", "config-2"), cloud_init="cloud-init", hostname=False),
    ],
)
def test_settings_are_the_same_in_the_archive(settings, patient, tmp_path):
    """Whatever files they came from, `--config` among them, they are read from the archive as they were."""
    from csagent.settings import load

    patient.settings = settings
    archive_of(patient, tmp_path / "b.tar.gz")
    unpacked = unpack((tmp_path / "b.tar.gz").read_bytes(), tmp_path / "unpacked")
    assert load(System.at(str(unpacked))) == settings


def test_wrong_settings_are_wrong_in_the_archive_too(tmp_path, capfd):
    """What is wrong and in which line is what support has to see; the words of the line are not."""
    put(
        tmp_path / "machine",
        "/etc/csagent/csagent.yaml",
        "# x\nuser: alice\nEXAMPLE-secret: EXAMPLE-secret\n",
    )
    record(tmp_path / "machine")
    run(tmp_path / "machine", "doctor", "--bundle", tmp_path / "b.tar.gz")
    unpacked = unpack((tmp_path / "b.tar.gz").read_bytes(), tmp_path / "unpacked")
    code, said = run(unpacked, "doctor")
    (one,) = [one for one in said["findings"] if one["area"] == "settings"]
    assert code == 1 and one["state"] == "problem" and "settings" in said["recorded"]["areas"]
    assert 'csagent.yaml, line 3: unknown key "redacted"; known keys: ' in one["saw"]
    assert not (unpacked / "etc/csagent/csagent.yaml").exists()


def test_archive_of_a_tree_is_judged_as_a_tree(tmp_path, capfd):
    """`--root DISK doctor --bundle`: elsewhere too nobody misses a pass, a unit or a NIC that no disk has."""
    root = make_tree(tmp_path / "machine")
    put(root, "/etc/ssh/sshd_config", "PermitRootLogin yes\nUsePAM yes\n")
    _code, first = run(root, "doctor", "--bundle", tmp_path / "b.tar.gz")
    unpacked = unpack((tmp_path / "b.tar.gz").read_bytes(), tmp_path / "unpacked")
    _code, second = run(unpacked, "doctor")
    assert second["recorded"]["what"] == "tree" and second["what"] == "archive"
    assert second["findings"] == first["findings"]
    assert [one for one in second["findings"] if one["saw"].startswith("not seen: this is a tree")]


# --- what is read ---


class Watched(Tree):
    """Notes what is looked at: opened, listed, or asked whether it is there."""

    def __init__(self, root):
        super().__init__(root)
        self.seen = set()

    def resolve(self, path, *, follow=True, visit=None):
        self.seen.add(path)
        return super().resolve(path, follow=follow, visit=visit)


READ = (
    *finder.lease_patterns(),
    *(mark for client in CLIENTS for mark in client.MARKS),
    "/sys/class/dmi/id/*",
    "/sys/class/net/*/*",
    "/sys/class/block/*/dev",
    "/run/udev/control",
    "/run/udev/data/b*",
    "/proc/net/route",
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/etc/csagent/csagent.yaml",
    "/etc/csagent/conf.d/*.yaml",
    "/run/csagent/status.json",
    "/_doctor/*",
)


def test_a_replay_reads_nothing_that_an_archive_does_not_hold(patient):
    """Neither discover nor doctor looks for a file of the machine that only the machine has."""
    patient.save()
    tree = Watched(str(patient.root))
    system = replace(System.at(str(patient.root)), tree=tree)
    look(system, prepare(system), ["config-2"])
    engine.examine(system, Settings(), "", Options(), wait=0.0)

    def expected(path):
        depth = path.rstrip("/").count("/")
        return any(
            fnmatch.fnmatchcase(path.rstrip("/"), "/".join(pattern.split("/")[: depth + 1]))
            for pattern in READ
        )

    # Who could have written a lease is judged by the accounts too: those of whoever unpacked it.
    accounts = {"/etc/passwd", "/etc/group", "/etc/login.defs"}
    assert [path for path in tree.seen - accounts if not expected(path)] == []
    assert {"/run/csagent/status.json", "/run/systemd/netif/leases/2", recorded.REPORT} <= tree.seen


def test_hostile_lease_directory_neither_hangs_nor_leaks(tmp_path, capfd):
    """A pipe, a gigabyte of nothing, links to secrets and devices, odd names: an end, and no secret."""
    root = tmp_path / "machine"
    put(root, "/etc/shadow", "root:$6$EXAMPLE-salt$EXAMPLE-hash:1::::::\n")
    put(root, "/secret", "option dhcp-server-identifier EXAMPLE-secret;\nEXAMPLE-secret\n")
    leases = put(root, "/var/lib/dhcp/dhclient.eth0.leases", blocks()).parent
    os.mkfifo(leases / "dhclient.pipe.leases")
    for name in ("dhclient.sparse.leases", "other.leases"):
        with open(leases / name, "wb") as stream:
            stream.truncate(1 << 30)
    for name, target in (("shadow", "/etc/shadow"), ("zero", "/dev/zero"), ("loop", "dhclient.loop.leases")):
        (leases / f"dhclient.{name}.leases").symlink_to(target)
    put(root, "/var/lib/dhcp/dhclient.a\nEXAMPLE: x.leases", blocks())
    (leases / os.fsdecode(b"dhclient.\xffEXAMPLE.leases")).write_text(blocks())
    (root / "etc/resolv.conf").symlink_to("/secret")
    put(root, "/run/csagent/x", "")
    (root / "run/csagent/status.json").symlink_to("/etc/shadow")
    record(root)
    run(root, "doctor", "--bundle", tmp_path / "b.tar.gz")
    members = contents(tmp_path / "b.tar.gz")
    left = members["_doctor/left-out.txt"].decode()
    assert "other.leases: File too large" in left and "a name that is not plain text" in left
    for name, content in members.items():
        assert b"EXAMPLE" not in content and "EXAMPLE" not in name
    assert len(left.splitlines()) < 25
    assert members["var/lib/dhcp/dhclient.eth0.leases"] == blocks().encode()
    assert len(members["var/lib/dhcp/dhclient.sparse.leases"]) <= 256 * 1024


def test_a_lease_that_others_could_have_written_is_named(tmp_path):
    """It is not believed, so it is not in the archive either; that it is there is said."""
    lease = put(tmp_path, "/var/lib/dhcp/dhclient.eth0.leases", blocks())
    lease.chmod(0o666)
    made = raw_of(record(tmp_path))
    assert lease.name not in str([member.path for member in made.members])
    assert [path for path, why in made.left_out if "everybody can write" in why] == [
        "/var/lib/dhcp/dhclient.eth0.leases"
    ]


class LiveTree(Tree):
    """A tree that says it is the running system."""

    def __init__(self, root):
        super().__init__(root)
        self.live = True


def test_what_only_root_may_read_is_listed(tmp_path, monkeypatch):
    """Without root the archive is made all the same and says that something is missing."""
    (tmp_path / "etc").mkdir()
    system = record(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    collected = raw._Collected(system)
    monkeypatch.undo()
    collected.evidence.leases.unread["/var/lib/dhcpcd/eth0.lease"] = "Permission denied"
    collected.system = replace(collected.system, tree=LiveTree(str(tmp_path)))
    left = dict(collected._left_out([], {}))
    assert "not run as root" in left["leases, DMI, journal"]
    assert left["/var/lib/dhcpcd/eth0.lease"] == "Permission denied"


def test_archive_is_made_even_where_reading_fails(patient, tmp_path, monkeypatch):
    """What doctor has found goes in even if nothing else can, and the archive says so and replays."""

    def broken(*_words):
        raise JailError("the support archive: failed (RuntimeError)")

    monkeypatch.setattr(raw, "gather", broken)
    members = archive_of(patient, tmp_path / "b.tar.gz")
    assert b"everything else: the support archive: failed (RuntimeError)" in members["_doctor/left-out.txt"]
    unpacked = unpack((tmp_path / "b.tar.gz").read_bytes(), tmp_path / "unpacked")
    _code, said = run(unpacked, "doctor")
    assert "sshd" in said["recorded"]["areas"]


# --- the file ---


def test_archive_is_private_relative_and_reproducible(tmp_path, capfd):
    """0600, names without a leading slash, nothing but files and directories, twice the same bytes."""
    old = os.umask(0)
    try:
        for name in ("a.tar.gz", "b.tar.gz"):
            run(CHOSEN / REPLAYED[0], "doctor", "--bundle", tmp_path / name)
    finally:
        os.umask(old)
    first = (tmp_path / "a.tar.gz").read_bytes()
    assert first == (tmp_path / "b.tar.gz").read_bytes()
    assert stat.S_IMODE((tmp_path / "a.tar.gz").stat().st_mode) == 0o600
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(first))) as packed:
        entries = packed.getmembers()
    assert [one.name for one in entries] == sorted({one.name for one in entries})
    assert all(one.isreg() or one.isdir() for one in entries)
    assert not [one.name for one in entries if one.name.startswith(("/", ".."))]
    assert {one.mode for one in entries if one.isreg()} == {0o600}
    assert {one.mode for one in entries if one.isdir()} == {0o755}
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "b.tar.gz"]


@pytest.mark.parametrize("kind", ["file", "dangling link", "directory"])
def test_nothing_is_overwritten(kind, tmp_path, capsys):
    """A name that is taken is refused in one line, before anything is looked at, and stays as it was."""
    destination = tmp_path / "b.tar.gz"
    if kind == "file":
        destination.write_text("mine")
    elif kind == "directory":
        destination.mkdir()
    else:
        destination.symlink_to(tmp_path / "elsewhere")
    before = os.lstat(destination)
    assert main(["--root", str(CHOSEN / REPLAYED[0]), "doctor", "--bundle", str(destination)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "not overwritten" in said.err
    with pytest.raises(UsageError):
        archive.put(str(destination), b"x")
    assert os.lstat(destination) == before
    assert os.listdir(tmp_path) == ["b.tar.gz"]


@pytest.mark.parametrize("name", ["-", "", "missing/b.tar.gz"])
def test_a_place_that_cannot_be_is_refused_at_once(name, tmp_path):
    """No file to write to is said before the work, not behind it."""
    with pytest.raises(UsageError):
        archive.check(str(tmp_path / name) if "/" in name else name)


def test_a_full_disk_leaves_nothing(tmp_path):
    """An archive that cannot be written whole is not there, nor is a part of it."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(CsagentError, match="File too large"):
            archive.put(str(tmp_path / "b.tar.gz"), b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(tmp_path) == []
