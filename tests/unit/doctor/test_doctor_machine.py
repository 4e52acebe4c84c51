"""What else doctor looks at: network, places, the last pass, units, disk, SELinux, clock; each ill alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Callable, Dict, Tuple

import pytest
from support.healthy_machine import INODES, MOUNTS, NOW, SPACE, UNITS, Patient
from support.replace_fields import replace
from support.samples import make_key

from csagent.apply.failures import explained
from csagent.decide import _doubted
from csagent.discovery.leases.belief import CLIENTS
from csagent.doctor.checks import homes, machine, renewal, units
from csagent.doctor.checks.sshd_config import Login, listed, matches, parse_effective, read_effective, split
from csagent.doctor.context import Situation
from csagent.model import Candidate, Lease, Nic, Place, Platform, Rejected
from csagent.settings import Settings
from csagent.sources.refusals import MTU
from csagent.system.accounts import Account
from csagent.system.seams import System
from csagent.system.tree import Tree


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A machine in good health."""
    return Patient(tmp_path)


def place(index: int, outcome: str, detail: str = "", seconds: float = 0.01) -> Callable[[Patient], None]:
    """One of the places (router, password server, drive) has another outcome."""

    def change(patient: Patient) -> None:
        places = list(patient.seen.places)
        places[index] = replace(places[index], outcome=outcome, detail=detail, seconds=seconds)
        found = any(one.believed and "password" not in one.place for one in places)
        patient.seen = replace(
            patient.seen,
            places=tuple(places),
            source_found=found,
            password="none" if index != 1 else "unknown",
        )

    return change


def drive(outcome: str) -> Callable[[Patient], None]:
    """There is a drive, read with this outcome."""

    def change(patient: Patient) -> None:
        one = Place("drive /dev/sr1", "block device with the label config-2", outcome, "4 files", 0.1)
        patient.seen = replace(patient.seen, places=(*patient.seen.places[:2], one))

    return change


def found(**changes: object) -> Callable[[Patient], None]:
    """`find` has found something else."""
    return lambda patient: setattr(patient, "found", replace(patient.found, **changes))  # type: ignore[arg-type]


def unit(old: str, new: str) -> Callable[[Patient], None]:
    """systemd says something else."""
    assert old in UNITS
    return lambda patient: patient.says("systemctl show", UNITS.replace(old, new, 1))


def datum(name: str, **entry: object) -> Callable[[Patient], None]:
    """The last pass did something else."""

    def change(patient: Patient) -> None:
        assert patient.status is not None
        patient.status["data"][name].update(entry)

    return change


def status(**changes: object) -> Callable[[Patient], None]:
    """The last pass was another."""

    def change(patient: Patient) -> None:
        assert patient.status is not None
        patient.status.update(changes)

    return change


def memory_apart(of_blocks: str, of_inodes: str, options: str = "rw") -> Callable[[Patient], None]:
    """csagent's memory lies on a file system of its own."""

    def change(patient: Patient) -> None:
        patient.write("/var/lib/csagent/latest-instance", "")
        patient.write("/proc/mounts", f"{MOUNTS}/dev/vdb /var/lib/csagent ext4 {options} 0 0\n")
        patient.says("df -P -k", f"{SPACE}/dev/vdb 2000 {of_blocks} 1% /var/lib/csagent\n")
        patient.says("df -P -i", f"{INODES}/dev/vdb 2000 {of_inodes} 1% /var/lib/csagent\n")

    return change


def selinux(command: str, text: str) -> Callable[[Patient], None]:
    """SELinux is enforcing, and one of its tools says this."""

    def change(patient: Patient) -> None:
        patient.write("/sys/fs/selinux/enforce", "1")
        patient.says(command, text)

    return change


NO_ADDRESS = (Nic("eth0", 2, None, ()),)
OVER = Lease("eth0", "systemd-networkd", "10.1.1.42", "10.1.1.1", ("10.1.1.1",), expires=NOW - 90_000.0)
STALE = (Rejected("/var/lib/dhcp/dhclient.eth0.leases", "dhclient", "eth0", "expired 3 days ago"),)
GONE = (
    Rejected("/var/lib/dhcp/dhclient.eth0.leases", "dhclient", "eth0", "stale: 10.1.1.9 is not on eth0 now"),
    Rejected(
        "/run/systemd/netif/leases/2", "systemd-networkd", "eth0", "stale: 10.1.1.42 is not on eth0 now"
    ),
)
DENIED = (
    'type=AVC msg=audit(1.2:3): avc:  denied  { write } for  pid=7 comm="csagent" name="shadow" dev="vda1"\n'
    'type=AVC msg=audit(1.2:4): avc:  denied  { read } for  pid=8 comm="httpd" name="index.html"\n'
)
LABELS = (
    "/etc/shadow verified.\n"
    "/root/.ssh has context unconfined_u:object_r:admin_home_t:s0, "
    "should be system_u:object_r:ssh_home_t:s0\n"
)
DOUBTED_DATA = _doubted("66 bytes, script: keep a copy", "its end did not come")
NOT_WRITTEN = "cannot write /etc/hostname: Read-only file system"

ILLS: Dict[str, Tuple[Callable[[Patient], None], str, str, str, str]] = {
    # name: (illness, state, area, in what was seen, in the advice)
    "another cloud": (
        found(platform=Platform("Amazon EC2", "t3.nano", None, False)),
        *("warning", "platform", "Amazon EC2 t3.nano", "systemctl disable"),
    ),
    "no NIC": (
        lambda patient: (
            found(nics=(), routes=(), leases=())(patient),
            setattr(patient, "seen", replace(patient.seen, source_found=False)),
        ),
        "problem",
        "network",
        "no network interface",
        "add a NIC",
    ),
    "no address": (found(nics=NO_ADDRESS), "problem", "network", "eth0 (default) no IPv4", "DHCP"),
    "no carrier": (
        lambda patient: patient.write("/sys/class/net/eth0/carrier", "0\n"),
        *("problem", "network", "no carrier", "plugged"),
    ),
    "only an expired lease": (
        found(leases=(), rejected=STALE),
        *(
            "warning",
            "leases",
            "no lease holds on eth0",
            "date; where that is right: ifdown eth0 && ifup eth0",
        ),
    ),
    "only a lease of this boot whose address is gone": (
        found(leases=(), rejected=GONE),
        *("warning", "leases", "no lease holds on eth0", "networkctl reconfigure eth0"),
    ),
    "a lease that is over by the clock": (
        found(leases=(OVER,)),
        *("warning", "clock", "by the clock", "timedatectl"),
    ),
    "password server refused": (
        place(1, "refused", "connection refused"),
        *("problem", "router", "password server 10.1.1.1:8080", "csagent apply"),
    ),
    "password server silent": (
        place(1, "timeout", "no answer", 3.0),
        *("problem", "router", "timeout after 3.000 s", "nft list ruleset"),
    ),
    "what it said is no password": (
        place(1, "malformed", "several lines"),
        *("problem", "router", "malformed after 0.010 s: several lines", "reset the password"),
    ),
    "router that fails for all": (
        place(0, "partial", "9 metadata keys; the router answers HTTP 500 to everything below /latest"),
        *("warning", "router", "HTTP 500", "router's administrator"),
    ),
    "router slow": (
        place(0, "ok", "10 metadata keys", 4.2),
        *("warning", "router", "ok after 4.200 s", "ping -c20 10.1.1.1"),
    ),
    "small replies only": (
        place(0, "partial", f"9 metadata keys; some of it could not be read; {MTU}"),
        *("warning", "router", "see the MTU", "ip link set dev eth0 mtu 1400; then: csagent apply"),
    ),
    "not all was answered": (
        place(0, "partial", "9 metadata keys; some of it could not be read, and is asked for again"),
        *("warning", "router", "partial", "csagent -v fetch"),
    ),
    "drive of another VM": (drive("foreign"), "warning", "drives", "drive /dev/sr1", "detach it"),
    "a damaged drive": (drive("malformed"), "warning", "drives", "malformed after 0.100 s", "stopping and"),
    "a pass failed": (
        datum("hostname", state="failed", reason="/etc/hostname: Read-only file system"),
        *("problem", "last pass", "hostname: failed", "csagent apply"),
    ),
    "a lock left behind": (
        datum(
            "password",
            state="failed",
            reason=explained("chpasswd failed with 1: Authentication token lock busy"),
        ),
        *(
            "problem",
            "last pass",
            "password: failed",
            "rm -f /etc/passwd.lock /etc/shadow.lock; then: csagent",
        ),
    ),
    "PAM denies": (
        datum("password", state="failed", reason=explained("chpasswd failed with 1: pam_chauthtok() failed")),
        *("problem", "last pass", "password: failed", "/etc/pam.d /etc/security"),
    ),
    "a pass failed, nobody knows why": (
        datum("hostname", state="failed", reason="the shadow entry did not change"),
        *("problem", "last pass", "hostname: failed", "mend that, then: csagent apply"),
    ),
    "a name that was not answered for": (
        datum("hostname", state="unknown", wrong=True, reason="HTTP 500"),
        *("warning", "last pass", "hostname: unknown", "see the area router above, then: csagent apply"),
    ),
    "keys that were not answered for": (
        datum("ssh_keys", state="unknown", wrong=True, reason="HTTP 500"),
        *("warning", "last pass", "ssh_keys: unknown", "see the area router above, then: csagent apply"),
    ),
    "user-data that a drive has not whole": (
        datum("user_data", state="applied", wrong=True, reason=DOUBTED_DATA, source="drive /dev/sr0"),
        *("warning", "last pass", "user_data: applied", "see the area drives above, then: csagent apply"),
    ),
    "keys with a line that is none": (
        datum("ssh_keys", wrong=True, reason=_doubted("1 key for root", "line 2 is cut")),
        *("warning", "last pass", "ssh_keys: applied", "register the keys anew in CloudStack where"),
    ),
    "a name that is not in its file": (
        datum("hostname", wrong=True, reason=f"web01; but {NOT_WRITTEN}: the next pass tries again"),
        *("warning", "last pass", "hostname: applied", "findmnt -fno TARGET --target /etc/hostname"),
    ),
    "keys that stay where they were": (
        datum("ssh_keys", wrong=True, reason="1 key for root; but the keys stay with root: it is a pipe"),
        *("warning", "last pass", "ssh_keys: applied", "mend that, then: csagent apply"),
    ),
    "a value refused": (
        datum("ssh_keys", state="refused", reason="no line of it is a public key"),
        *("warning", "last pass", "ssh_keys: refused", "csagent plan"),
    ),
    "an old password": (
        datum("password", state="refused", reason="an older one; csagent apply --force-password sets it"),
        *("warning", "last pass", "password: refused", "csagent apply --force-password"),
    ),
    "not acknowledged": (
        datum("password", acknowledged="no"),
        *("warning", "last pass", "password: applied", "csagent apply"),
    ),
    "a note of the pass": (
        status(note="the memory was damaged"),
        *("warning", "last pass", "the memory was damaged", "journalctl -b -u csagent"),
    ),
    "no pass yet": (
        lambda patient: setattr(patient, "status", None),
        *("warning", "last pass", "none", "systemctl status csagent"),
    ),
    "a damaged record": (
        lambda patient: (
            setattr(patient, "status", None),
            patient.write("/run/csagent/status.json", "[1"),
        ),
        *("warning", "last pass", "status.json is damaged", "csagent apply"),
    ),
    "unit missing": (
        unit("LoadState=loaded", "LoadState=not-found"),
        *("problem", "units", "there is no csagent.service", "install csagent's package again"),
    ),
    "unit masked": (
        unit("LoadState=loaded", "LoadState=masked"),
        *("problem", "units", "masked", "systemctl unmask csagent.service"),
    ),
    "unit disabled": (
        unit("UnitFileState=enabled", "UnitFileState=disabled"),
        *("problem", "units", "csagent.service is disabled", "systemctl enable --now"),
    ),
    "unit failed": (
        unit("ActiveState=active\nSubState=running", "ActiveState=failed\nSubState=failed"),
        *("problem", "units", "csagent.service is failed", "journalctl -b -u csagent"),
    ),
    "unit stopped": (
        unit("ActiveState=active\nSubState=running", "ActiveState=inactive\nSubState=dead"),
        *("problem", "units", "csagent.service is inactive (dead)", "systemctl start"),
    ),
    "unit restarts": (unit("NRestarts=0", "NRestarts=5"), "warning", "units", "5 restarts", "journalctl"),
    "sshd failed": (
        lambda patient: patient.says(
            "systemctl show",
            UNITS[: UNITS.index("Id=ssh.")] + "Id=ssh.service\nLoadState=loaded\nActiveState=failed\n",
        ),
        *("problem", "units", "ssh.service is failed", "sshd -t; journalctl -b -u ssh.service"),
    ),
    "sshd masked": (
        lambda patient: patient.says(
            "systemctl show",
            UNITS[: UNITS.index("Id=ssh.")] + "Id=ssh.service\nLoadState=masked\nActiveState=inactive\n",
        ),
        *("problem", "units", "ssh.service is masked", "systemctl unmask ssh.service && systemctl enable"),
    ),
    "unit dead, and none that is enabled": (
        unit(
            "ActiveState=active\nSubState=running\nUnitFileState=enabled",
            "ActiveState=inactive\nSubState=dead\nUnitFileState=static",
        ),
        *("problem", "units", "csagent.service is inactive (dead)", "systemctl start"),
    ),
    "disk full": (
        lambda patient: patient.says("df -P -k", SPACE.replace("49000", "0")),
        *("problem", "disk", "/run has 0 KiB left", "du -xh /run"),
    ),
    "disk nearly full": (
        lambda patient: patient.says("df -P -k", SPACE.replace("7100000", "9000")),
        *("warning", "disk", "/ has 9000 KiB left", "du -xh /"),
    ),
    "no inodes": (
        lambda patient: patient.says("df -P -i", INODES.replace("7100000", "0")),
        *("problem", "disk", "/ has 0 inodes left", "du --inodes"),
    ),
    "read-only": (
        lambda patient: patient.write("/proc/mounts", MOUNTS.replace("ext4 rw", "ext4 ro")),
        *("problem", "disk", "/ is read-only", "mount -o remount,rw /"),
    ),
    "memory full": (
        memory_apart("2000 0", "9 1991"),
        *("problem", "disk", "/var/lib/csagent has 0 KiB left", "du -xh /var/lib/csagent"),
    ),
    "memory without inodes": (
        memory_apart("9 99999", "2000 0"),
        *("problem", "disk", "/var/lib/csagent has 0 inodes left", "du --inodes -x /var/lib/csagent"),
    ),
    "memory read-only": (
        memory_apart("9 99999", "9 1991", "ro"),
        *("problem", "disk", "/var/lib/csagent is read-only", "mount -o remount,rw /var/lib/csagent"),
    ),
    "denied by SELinux": (
        selinux("ausearch", DENIED),
        *("problem", "selinux", "denied csagent: write shadow", "restorecon"),
    ),
    "wrong label": (
        selinux("matchpathcon", LABELS),
        *("problem", "selinux", "/root/.ssh is labelled", "restorecon -RFv /root/.ssh"),
    ),
    "a pass that is still to come": (
        status(finished=NOW + 7200.0),
        *("warning", "last pass", "still to come", "date; where that is right: csagent apply; else: time"),
    ),
}


@pytest.mark.parametrize("name", ILLS)
def test_an_illness_is_named_with_advice(patient: Patient, name: str) -> None:
    """A finding of the right state and area says what was seen and what to do; no other area is worse off."""
    illness, state, area, saw, advice = ILLS[name]
    illness(patient)
    found = patient.wrong(area)
    assert [one.state for one in found] == [state], found
    assert saw in found[0].saw and advice in found[0].advice and found[0].means, found
    beside = {one.area for one in patient.wrong()} - {area}
    allowed = {"leases", "clock"} if name in ("only an expired lease", "no NIC", "no address") else set()
    assert beside <= (allowed | {"source"} if name == "no NIC" else allowed), beside


@pytest.mark.parametrize(
    ("total", "left", "state"),
    [
        (2048, 2040, ""),
        (2048, 300, "warning"),
        (2048, 100, "problem"),
        (8_000_000, 20_000, ""),
        (8_000_000, 9_000, "warning"),
        (8_000_000, 900, "problem"),
    ],
)
def test_a_small_run_is_judged_by_its_share(total: int, left: int, state: str, patient: Patient) -> None:
    """An empty one of 2 MiB is not filling up."""
    line = "tmpfs                50000   1000     49000"
    assert line in SPACE
    patient.says("df -P -k", SPACE.replace(line, f"tmpfs {total} {total - left} {left}"))
    found = patient.wrong("disk")
    assert [one.state for one in found] == [state] * bool(state)
    assert all(("cannot write there" in one.means) is (state == "problem") for one in found)


@pytest.mark.parametrize("there", ["/data/csagent", "/data"])
def test_memory_behind_a_link_is_judged_where_it_lies(there: str, patient: Patient) -> None:
    """Passes follow root's own link, and make the directory that it names, too."""
    (patient.root / there.strip("/")).mkdir(parents=True)
    (patient.root / "var/lib").mkdir(parents=True, exist_ok=True)
    (patient.root / "var/lib/csagent").symlink_to("../../data/csagent")
    patient.write("/proc/mounts", f"{MOUNTS}/dev/vdb /data ext4 rw 0 0\n")
    patient.says("df -P -k", f"{SPACE}/dev/vdb 2000000 9 99999 1% /data\n")
    assert patient.wrong("disk") == []
    patient.says("df -P -k", f"{SPACE}/dev/vdb 2000000 1999991 9 100% /data\n")
    (found,) = patient.wrong("disk")
    assert (found.state, found.saw) == ("problem", "/data has 9 KiB left")
    assert found.means == "csagent cannot write there: csagent's memory"


def test_few_inodes_are_no_reason_that_nothing_is_written(patient: Patient) -> None:
    """Only where there is none left."""
    patient.says("df -P -i", INODES.replace("7100000", "50"))
    (found,) = patient.wrong("disk")
    assert (found.state, found.means) == ("warning", "it is filling up: accounts, csagent's memory, keys")


@pytest.mark.parametrize("options", ["rw", "ro"])
def test_where_df_hangs_nobody_knows_how_full_it_is(patient: Patient, options: str) -> None:
    """It waits for a file server that is gone; what /proc/mounts says is told all the same."""
    del patient.outputs["df -P -k"], patient.outputs["df -P -i"]
    patient.edit("/proc/mounts", "ext4 rw", f"ext4 {options}")
    *mounts, df = patient.findings("disk")
    assert df.state == "note" and df.saw.startswith("not seen: how much room there is in /etc, /")
    assert [one.saw for one in mounts] == (["/ is read-only"] if options == "ro" else [])


def test_without_a_record_it_is_not_said_that_nothing_was_set(patient: Patient) -> None:
    """A pass goes on where /run has no room for its record."""
    patient.status = None
    patient.says("df -P -k", SPACE.replace("49000", "0"))
    (found,) = patient.wrong("last pass")
    assert "nothing was set" not in found.means and "room in /run" in found.means


def test_a_pass_at_a_clock_that_was_ahead_hides_nothing(patient: Patient) -> None:
    """What is wrong now is told beside it, and a lease that is lost comes first."""
    status(finished=NOW + 95 * 365 * 86400.0)(patient)
    assert [(one.area, one.saw[:5]) for one in patient.wrong()] == [("last pass", "2121-")]
    (clock,) = [one for one in patient.examined().findings if one.area == "clock"]
    assert clock.state == "note" and "ended later" in clock.saw
    ILLS["a lease that is over by the clock"][0](patient)
    (over,) = patient.wrong("clock")
    assert "its lease expired" in over.means and "networkctl reconfigure eth0" in over.advice
    first = patient.examined().first
    assert first is not None and first.advice.startswith("date; where that is right: csagent apply")
    ILLS["only an expired lease"][0](patient)
    first = patient.examined().first
    assert first is not None and first.advice.endswith("ifdown eth0 && ifup eth0")


def test_a_router_that_fails_at_everything(patient: Patient) -> None:
    """Its administrator is who has to look; the network's offering is not to blame for it."""
    place(0, "failed", "HTTP 500")(patient)
    (one,) = patient.wrong("router")
    assert one.state == "problem" and "HTTP 500" in one.saw and "for all of its VMs" in one.means
    assert one.advice.startswith("curl -i http://10.1.1.1:80/latest/meta-data/")
    assert all("offering" not in one.advice for one in patient.wrong("source"))


@pytest.mark.parametrize("name", ILLS)
def test_an_illness_is_in_the_archive_word_for_word(patient: Patient, name: str) -> None:
    """What doctor says of each can be read in a support archive as on the machine."""
    ILLS[name][0](patient)
    assert patient.archived() == patient.findings()


def test_the_advice_stands_once(patient: Patient) -> None:
    """What the pass has said to do is shown as what to do, not beside it as well."""
    ILLS["a lock left behind"][0](patient)
    (found,) = patient.wrong("last pass")
    assert found.means.endswith("has left its lock") and "do:" not in found.means


def test_another_router_that_answers_makes_a_refusal_a_note(patient: Patient) -> None:
    """On a shared network some candidates refuse, and that is how it is; the chosen one counts."""
    other = Place("router 10.1.1.254", "the gateway", "refused", "connection refused", 0.001)
    second = Place("password server 10.1.1.254:8080", "the gateway", "timeout", "no answer", 2.0)
    patient.seen = replace(patient.seen, places=(*patient.seen.places, other, second))
    assert patient.wrong() == []


def test_a_config_drive_makes_a_silent_router_a_note(patient: Patient) -> None:
    """A network without a router's metadata has it on the drive: nothing is wrong."""
    place(0, "timeout", "no answer")(patient)
    routers = [*patient.seen.places[:1], Place("password server 10.1.1.1:8080", "x", "refused")]
    good = Place("drive /dev/sr1", "the label config-2", "ok", "5 files", 0.2)
    patient.seen = replace(patient.seen, places=(*routers, good), source_found=True)
    assert patient.wrong() == []


@pytest.mark.parametrize("outcome", ["refused", "timeout", "unreachable", "absent", "malformed", "foreign"])
def test_every_outcome_of_a_lone_router_is_a_problem_with_advice(patient: Patient, outcome: str) -> None:
    """Nobody has the data: the router's outcome is explained, and the source is said to be missing."""
    place(0, outcome)(patient)
    patient.seen = replace(patient.seen, places=patient.seen.places[:1])
    router, source = patient.wrong("router", "source")
    assert router.area == "router" and router.means and "{" not in router.advice + router.means
    assert (source.saw, source.state) == ("no CloudStack source", "problem") and source.advice


def alone(patient: Patient, *places_: Place, **changes: object) -> None:
    """Nobody has the data; these were asked."""
    patient.found = replace(patient.found, **changes)  # type: ignore[arg-type]
    patient.seen = replace(patient.seen, places=places_, source_found=False, password="unknown")


NAME = Place("router data-server.", "the name data-server., from the name servers of eth0", "absent")


@pytest.mark.parametrize(
    ("outcome", "detail", "means"),
    [
        ("absent", "data-server. does not resolve", "no name server of that network knows the name"),
        ("timeout", "data-server. was not resolved in time", "no name server of that network answers"),
    ],
)
@pytest.mark.parametrize("believed", [True, False])
def test_a_name_that_was_not_resolved_is_no_server(
    patient: Patient, outcome: str, detail: str, means: str, believed: bool
) -> None:
    """Nobody was asked under it: no word of answers or pings, and what to do is said elsewhere."""
    name = replace(NAME, outcome=outcome, detail=detail)
    silent = Place("router 10.1.1.1", "DHCP server of eth0", "absent", "HTTP 404")
    first = patient.seen.places[0] if believed else silent
    alone(patient, first, name)
    patient.seen = replace(patient.seen, source_found=believed)
    (found,) = [one for one in patient.findings("router") if "data-server." in one.saw]
    assert found.state == "note" and found.means.startswith(means) and found.advice == ""
    assert found.saw.startswith("the name data-server. (") and "router" not in found.saw
    if not believed:
        (source,) = patient.wrong("source")
        assert source.advice and "data-server." not in source.advice
    assert patient.archived() == patient.findings()


def test_a_name_server_that_is_silent_is_no_router_that_is(patient: Patient) -> None:
    """Where the address answered and has nothing, the network's offering is what to look at."""
    silent = replace(NAME, outcome="timeout")
    alone(patient, Place("router 10.1.1.1", "DHCP server of eth0", "absent", "HTTP 404"), silent)
    (source,) = patient.wrong("source")
    assert source.advice.startswith("see that the network's offering has UserData")


GATEWAY = Candidate("10.1.1.254", "gateway", "router of eth0 (dhclient)", "eth0", "10.1.1.42")


def test_a_physical_gateway_is_not_called_a_virtual_router(patient: Patient) -> None:
    """On a shared network nothing listens on its port 8080, and never will."""
    word = Place("password server 10.1.1.254:8080", "router of eth0 (dhclient)", "refused")
    patient.found = replace(patient.found, candidates=(GATEWAY,))
    patient.seen = replace(patient.seen, places=(patient.seen.places[0], word), password="unknown")
    (found,) = patient.wrong("router")
    assert "a physical gateway has none" in found.means and "cmk list routers" in found.advice
    # One that gave the instance id is the virtual router; so is what is more than a gateway.
    mine = replace(patient.seen.places[0], place="router 10.1.1.254")
    patient.seen = replace(patient.seen, places=(mine, word))
    assert patient.wrong("router")[0].means.startswith("the virtual router's password server does not run")
    server = replace(GATEWAY, kind="server-identifier")
    patient.found = replace(patient.found, candidates=(server, GATEWAY))
    patient.seen = replace(patient.seen, places=(replace(mine, place="router 10.1.1.7"), word))
    assert patient.wrong("router")[0].means.startswith("the virtual router's password server does not run")


@pytest.mark.parametrize("outcome", ["timeout", "unreachable"])
def test_a_lease_may_name_a_router_that_was_replaced(patient: Patient, outcome: str) -> None:
    """Nobody answers at the address that a lease names as its server: the lease is made anew."""
    alone(patient, Place("router 10.1.1.1", "DHCP server of eth0", outcome))
    found = patient.wrong("router")[0]
    assert "a virtual router that was replaced" in found.means
    assert found.advice.endswith(
        "from the console: systemctl start systemd-networkd && networkctl reconfigure eth0"
    )
    assert patient.archived() == patient.findings()
    alone(patient, Place("router 10.1.1.254", "router of eth0", outcome))
    assert "replaced" not in patient.wrong("router")[0].means


LEASE = Lease("eth0", "dhclient", "10.1.1.42", "10.1.1.1", path="/var/lib/dhcp/dhclient.eth0.leases")
RENEWALS = {
    "systemd-networkd": "systemctl start systemd-networkd && networkctl reconfigure eth0",
    "NetworkManager": "systemctl start NetworkManager && nmcli device connect eth0",
    "dhclient": "ifdown eth0 && ifup eth0",
    "udhcpc": "ifdown eth0 && ifup eth0",
    "dhcpcd": "dhcpcd --rebind eth0",
    "wicked": "wicked ifdown eth0 && wicked ifup eth0",
    "connman": "reboot",
}
HELP = {"networkctl": ["--help"], "nmcli": ["device", "help"], "dhcpcd": ["--help"]}


@pytest.mark.parametrize("client", RENEWALS)
def test_each_client_has_its_own_command(client: str) -> None:
    """One that a shell takes, and whose program, where it is here, knows the word; odd names, too."""
    command = renewal.command(replace(LEASE, client=client))
    assert command == RENEWALS[client]
    assert subprocess.run(["sh", "-nc", command], check=False, timeout=600).returncode == 0
    program, _, rest = command.partition(" ")
    if program in HELP and shutil.which(program) is not None:
        told = subprocess.run([program, *HELP[program]], capture_output=True, text=True, timeout=600)
        word = rest.split()[-2].lstrip("-")
        assert word in told.stdout + told.stderr
    odd = renewal.command(replace(LEASE, client=client, interface="a; b"))
    assert client == "connman" or "'a; b'" in odd


def test_dhclient_under_networkmanager_is_networkmanagers() -> None:
    """It is not ifupdown's, whoever wrote the lease."""
    lease = replace(LEASE, path="/var/lib/NetworkManager/dhclient-UUID-eth0.lease")
    assert renewal.command(lease) == "systemctl start NetworkManager && nmcli device connect eth0"


def test_every_client_with_a_command_is_one_that_leases_name() -> None:
    """The names are those of the modules that read leases."""
    assert {one.NAME for one in CLIENTS} >= set(RENEWALS)


def test_settings_that_are_not_the_defaults_are_named(patient: Patient) -> None:
    """A note, with the settings as they are written in the file."""
    patient.settings = Settings(hostname=False, sources=("drive",), wait=3.0)
    (note,) = patient.findings("settings")
    assert note.state == "note" and "hostname left alone" in note.means
    assert note.saw == "sources: [drive]; hostname: false; wait: 3"


def test_units_of_systemd_are_read_block_by_block() -> None:
    """Values with an equals sign stay whole; a block without an Id is nobody's."""
    known = units.parse("Id=a.service\nDescription=x=y\n\nFoo=1\n\nId=b.service\nLoadState=loaded\n")
    assert known == {
        "a.service": {"Id": "a.service", "Description": "x=y"},
        "b.service": {"Id": "b.service", "LoadState": "loaded"},
    }


def test_df_and_mounts_of_odd_file_systems_are_read() -> None:
    """btrfs counts no inodes, a mount point may have blanks, the last mount on a point is the one seen."""
    space = machine.parse_df(
        "Filesystem Inodes IUsed IFree IUse% Mounted on\n/dev/sda 0 0 0 - /a b\nbad line\n"
    )
    assert space == {"/a b": machine.Space(0, 0, "/a b")}
    mounts = machine.parse_mounts("x /a\\040b ext4 ro 0 0\ny / ext4 rw 0 0\nz / xfs ro,noatime 0 0\n\n")
    assert mounts == {"/a b": ("ro",), "/": ("ro", "noatime")}
    assert machine.parse_df("head\n/dev/sda 9 0 9 - /a\u2028b\n") == {
        "/a\u2028b": machine.Space(9, 9, "/a\u2028b")
    }


# --- sshd_config(5) ---


def effective(root: Path, text: str, user: str = "root", groups: Tuple[str, ...] = ()) -> Dict[str, str]:
    """What the file means for a login."""
    (root / "etc/ssh/sshd_config.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssh/sshd_config").write_text(text)
    said = read_effective(Tree(str(root)), Login(user, groups))
    return {keyword: said.get(keyword) for keyword in said.values}


def test_the_first_value_wins_and_quotes_and_equals_signs_are_understood(tmp_path: Path) -> None:
    """As sshd_config(5) says: case of keywords, `=`, quotes, comments, older names."""
    text = (
        'permitROOTlogin "no" # really\nPermitRootLogin yes\nPasswordAuthentication=no\n'
        "ChallengeResponseAuthentication = yes\nAllowUsers a b\nAllowUsers c\n  # UsePAM yes\n"
    )
    assert effective(tmp_path, text) == {
        "permitrootlogin": "no",
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "yes",
        "allowusers": "a b c",
    }


def test_a_line_feed_alone_ends_a_line(tmp_path: Path) -> None:
    """What Python takes for a line end inside a comment begins no setting, and no line is counted for it."""
    text = (
        "# a\u2028PermitRootLogin no\n# b\x0bUsePAM yes\x0c\x1c\x85x\rUsePAM yes\nPermitEmptyPasswords yes\n"
    )
    assert effective(tmp_path, text) == {"permitemptypasswords": "yes"}
    said = read_effective(Tree(str(tmp_path)), Login("root"))
    assert said.where("permitemptypasswords") == "/etc/ssh/sshd_config, line 3"


def test_a_key_in_a_comment_is_none(tmp_path: Path) -> None:
    """Wherever else than behind a line feed it begins."""
    file = tmp_path / "root/.ssh/authorized_keys"
    file.parent.mkdir(parents=True)
    file.write_text(f"# a\u2028{make_key(1)}\n{make_key(2)}\n")
    root = Account("root", 0, 0, "/root", "/bin/sh")
    keys = homes.read_keys(Situation(System.at(str(tmp_path)), Settings(), account=root))
    assert keys is not None and keys.all == ("ssh-ed25519",)


def test_include_stands_where_it_stands_and_its_match_ends_with_it(tmp_path: Path) -> None:
    """Files in the order of their names; a Match in one of them says nothing about what follows it."""
    drop_ins = tmp_path / "etc/ssh/sshd_config.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "20.conf").write_text("UsePAM no\n")
    (drop_ins / "10.conf").write_text("UsePAM yes\nMatch User bob\nPermitRootLogin no\n")
    text = "Include sshd_config.d/*.conf\nPermitRootLogin yes\nInclude /etc/ssh/absent/*.conf\n"
    assert effective(tmp_path, text) == {"usepam": "yes", "permitrootlogin": "yes"}


@pytest.mark.parametrize(
    ("criteria", "applies"),
    [
        ("all", True),
        ("User root", True),
        ("User alice,r*", True),
        ("User *,!root", False),
        ("Group wheel", True),
        ("Group sudo", False),
        ("User root Group wheel", True),
        ("User root Group sudo", False),
        ("Address 203.0.113.0/24", True),
        ("Address 10.0.0.0/8", False),
        ("Address 192.168.*", False),
        ("LocalPort 22", False),
        ("exec /bin/true", False),
        ("User", False),
    ],
)
def test_match_applies_where_all_its_criteria_do(tmp_path: Path, criteria: str, applies: bool) -> None:
    """User, group, address and all are judged; what cannot be told here does not apply."""
    text = f"Match {criteria}\nPermitRootLogin no\nMatch all\nUsePAM yes\n"
    expected = {"usepam": "yes", **({"permitrootlogin": "no"} if applies else {})}
    assert effective(tmp_path, text, groups=("root", "wheel")) == expected


def test_an_include_of_itself_ends(tmp_path: Path) -> None:
    """As deep as sshd goes, and no deeper."""
    assert effective(tmp_path, "Include /etc/ssh/sshd_config\nUsePAM yes\n") == {"usepam": "yes"}


def test_patterns_of_users() -> None:
    """* and ? only; a bracket is a bracket; a host behind the name is not looked at."""
    assert matches("root", "r??t") and not matches("root", "[r]oot") and matches("[r]oot", "[r]oot")
    assert listed(Login("root"), ("alice", "root@10.*")) == (True, "root@10.*")
    assert split("  # nothing") == [] and split("AuthorizedKeysFile  /x %u") == [
        "AuthorizedKeysFile",
        "/x",
        "%u",
    ]


def test_what_sshd_prints_is_taken_as_it_is() -> None:
    """Lower-case keywords, one a line; those that add up come on several lines."""
    said = parse_effective("permitrootlogin without-password\nallowusers a\nallowusers b\n\n")
    assert said.get("permitrootlogin") == "prohibit-password" and said.values["allowusers"] == ["a", "b"]


def test_a_machine_that_lives_from_a_drive_needs_no_nic(patient: Patient) -> None:
    """It is worth a note."""
    found(nics=(), routes=(), leases=())(patient)
    assert patient.wrong("network", "leases") == []
    (one,) = patient.findings("network")
    assert (one.state, one.saw, one.advice) == ("note", "no network interface", "")
