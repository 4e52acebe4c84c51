"""What the resident daemon does while its machine runs: one machine, looked into, in the order below.

Its one processor has 10^9 instructions a second by its own clock (`machine.steady`). The figures are printed
(`pytest -s`) as that clock has them, and as a processor of today would have taken: see `Applied.fair`.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from support.debian_image import Installed
from support.replace_fields import replace
from support.vm_cloud import describe, hash_verifies, make_drive
from support.vm_machine import Control, Machine

from csagent.apply.network.renderers import networkd
from csagent.lab.cloud import Cloud
from csagent.lab.network_data import BY_DRIVE, BY_ROUTER, PER_NIC, CloudNetwork, CloudNic
from csagent.lab.vm import segment
from csagent.lab.vm.accelerator import steady
from csagent.lab.vm.machine import MAC as NIC_MAC
from csagent.lab.vm.machine import killed_at_end
from csagent.lab.vm.namespace import Namespace
from csagent.lab.vm.qmp import Qmp
from csagent.lab.vm.segment import Segment

pytestmark = [pytest.mark.vm, pytest.mark.root]

TODAY = 3.0  # times as many instructions a second: 3 GHz and one for each cycle is a slow one
LIMIT = 1.0  # seconds from udev's event to the application
NETWORK_LIMIT = 2.0  # and until the addresses of its NICs are confirmed
LATER_MAC = "02:00:4c:9f:00:17"
QUIET_TIME = 20  # seconds
TRACING = "/sys/kernel/tracing"
EVENTS, UDEV, SAMPLES = "/run/csagent-test-events", "/run/csagent-test-udev", "/run/csagent-test-samples"
STATUS = "/run/csagent/status.json"
WRITTEN = f"stat -c %y {STATUS}"
QUIET = f"""
pid=$(systemctl show -p MainPID --value csagent.service)
for i in $(seq {{tries}}); do
    now=$(stat -c %y {STATUS}) children=$(cat /proc/$pid/task/*/children)
    [ -z "$children" ] && [ "$now" = "$last" ] && exit
    [ -z "$children" ] && last=$now || last=
    sleep {{seconds}}
done
exit 1"""
DATA = ("hostname", "ssh_keys", "password")


def figure(text: str) -> None:
    """Something for who runs it with `-s`."""
    sys.stdout.write(f"\n{text}\n")


@dataclass(frozen=True)
class Applied:
    """When one datum was applied: seconds of the guest's clock from udev's event, and those it was idle."""

    datum: str
    raw: float
    idle: float

    @property
    def fair(self) -> float:
        """As a processor of today takes: the waiting stays, the work is divided."""
        factor = TODAY if "-icount" in steady() else 1.0
        return self.idle + max(0.0, self.raw - self.idle) / factor


class Guest:
    """The running machine, and what CloudStack says of it."""

    def __init__(
        self, machine: Machine, namespace: Namespace, directory: Path, qmp: Qmp, shell: Control
    ) -> None:
        self.machine, self.namespace, self.directory = machine, namespace, directory
        self.qmp, self.shell = qmp, shell
        self.cloud = describe("vm-1", 1)
        self.number = 1
        self.usual: Dict[str, Any] = {}  # what the daemon costs when it has settled

    # --- CloudStack's side ---

    def next_cloud(self) -> Cloud:
        """Another hostname, other keys, another password."""
        self.number += 1
        new = describe(f"vm-{self.number}", self.number)
        self.cloud = replace(
            new, instance_id=self.cloud.instance_id, password=f"marker-Pw{self.number}EXAMPLE"
        )
        return self.cloud

    def drive_of(self, cloud: Cloud) -> Path:
        directory = self.directory / cloud.hostname
        directory.mkdir()
        return make_drive(directory, cloud)

    # --- inside ---

    def observe(self) -> None:
        """From now on write down what udev and csagent say, and how busy the machine is."""
        monitor = f"exec stdbuf -oL udevadm monitor --udev --property --subsystem-match=block >{UDEV}"
        journal = f"exec journalctl -f -n 0 -o json -u csagent.service >{EVENTS}"
        for name, line in (
            ("udev", monitor),
            ("events", journal),
            ("samples", "/usr/lib/csagent-test/control sample"),
        ):
            self.shell.run(f"systemd-run --quiet --unit=csagent-test-{name} sh -c '{line}'")
        assert self.shell.wait(UDEV, "^UDEV - ") and self.shell.wait(SAMPLES, r"^\d")

    def mark(self) -> Tuple[int, int]:
        """The present ends of the two records."""
        events, udev = self.shell.run(f"stat -c %s {EVENTS} {UDEV}").split()
        return int(events), int(udev)

    def now(self) -> float:
        return float(self.shell.run("cat /proc/uptime").split()[0])

    def entries(self, mark: Tuple[int, int]) -> List[Dict[str, Any]]:
        """The journal's entries of csagent since then."""
        text = self.shell.run(f"tail -c +{mark[0] + 1} {EVENTS}")
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def text(self, mark: Tuple[int, int]) -> str:
        """The same for a message of an assertion."""
        return "\n".join(str(entry.get("MESSAGE")) for entry in self.entries(mark))

    def event(self, mark: Tuple[int, int], wait: float = 30.0, **fields: str) -> Dict[str, Any]:
        """The first entry since then with these fields (of CSAGENT_...), once it is there."""
        ahead = "".join(
            f'(?=.*"CSAGENT_{name.upper()}":"{re.escape(value)}")' for name, value in fields.items()
        )
        line = self.shell.wait(EVENTS, f"^{ahead}.*}}$", mark[0], wait)
        assert line is not None, f"{fields} not within {wait} s; csagent said:\n{self.text(mark)}"
        return dict(json.loads(line))

    def applied(self, mark: Tuple[int, int], source: str = "", wait: float = 30.0) -> Dict[str, float]:
        """When each datum was applied, as the journal has it; it is checked that the machine agrees."""
        found = {}
        for datum in DATA:
            entry = self.event(mark, wait, event="applied", datum=datum)
            assert source in entry["CSAGENT_SOURCE"], entry
            found[datum] = int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6
        self.agrees()
        return found

    def agrees(self) -> None:
        """Hostname, keys (the former ones are gone) and the password are CloudStack's latest."""
        text = self.shell.run(
            "hostname; cat /etc/hostname; grep ^root: /etc/shadow; cat /root/.ssh/authorized_keys"
        )
        lines = text.splitlines()
        assert lines[:2] == [self.cloud.hostname] * 2
        assert [line for line in lines[3:] if line.startswith("ssh-")] == list(self.cloud.ssh_keys)
        assert self.cloud.password and hash_verifies(self.cloud.password, lines[2].split(":")[1])

    def settled(self, mark: Tuple[int, int]) -> float:
        """When udev first told of a drive with the label, since then."""
        text = self.shell.run(f"tail -c +{mark[1] + 1} {UDEV}")
        blocks = [block for block in text.split("\n\n") if "ID_FS_LABEL=config-2" in block]
        assert blocks, text
        return float(re.findall(r"UDEV  \[([0-9.]+)\] (?:add|change)", blocks[0])[0])

    def samples(self) -> List[Tuple[float, float, int]]:
        rows = self.shell.run(f"cat {SAMPLES}").splitlines()
        return [(float(at), float(idle), int(ended)) for at, idle, ended in map(str.split, rows[:-1])]

    def passes(self, start: float, end: float) -> int:
        """How many passes have ended between two moments."""
        ended = [number for at, _, number in self.samples() if start <= at <= end]
        return len(set(ended)) - 1

    def since_udev(self, mark: Tuple[int, int], applied: Dict[str, float]) -> List[Applied]:
        began, samples = self.settled(mark), self.samples()

        def idle(moment: float) -> float:
            return min(samples, key=lambda sample: abs(sample[0] - moment))[1]

        return [Applied(datum, at - began, idle(at) - idle(began)) for datum, at in applied.items()]

    def in_time(self, what: str, mark: Tuple[int, int]) -> None:
        """All three were applied from the drive, within a second of udev's event."""
        told = self.since_udev(mark, self.applied(mark, "drive"))
        figures = ", ".join(f"{one.datum} {one.raw:.2f} s ({one.fair:.2f} s)" for one in told)
        figure(f"{what}: udev's event to applied: {figures}")
        for one in told:
            assert 0 < one.fair <= LIMIT, f"{what}: {one}\n{self.text(mark)}"

    def plug(self, name: str, mac: str) -> None:
        """A NIC on the lab's segment."""
        words = {"driver": "virtio-net-pci", "id": name, "netdev": "segment", "mac": mac, "romfile": ""}
        self.qmp.execute("device_add", **words)

    def network_medium(self, mac: str, address: str) -> Tuple[int, int]:
        """Another medium, which gives a NIC this address; the moment before it."""
        nics = (CloudNic(NIC_MAC, BY_ROUTER), CloudNic(mac, BY_DRIVE, (address,), ("10.7.0.1",)))
        self.cloud = replace(self.next_cloud(), network=CloudNetwork(nics, form=PER_NIC))
        image = self.drive_of(self.cloud)
        mark = self.mark()
        self.qmp.exchange("cd1", image)
        return mark

    def network_applied(self, what: str, mark: Tuple[int, int]) -> None:
        """The address is in force and confirmed within two seconds of udev's event."""
        entry = self.event(mark, event="applied", datum="network")
        (told,) = self.since_udev(mark, {"network": int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6})
        figure(f"{what}: udev's event to addresses confirmed: {told.raw:.2f} s ({told.fair:.2f} s)")
        assert 0 < told.fair <= NETWORK_LIMIT, f"{what}: {told}\n{self.text(mark)}"

    def settings(self, text: str) -> Tuple[int, int]:
        """Other settings, and a reload; returns the moment before it."""
        mark = self.mark()
        self.shell.run(f"printf '{text}' >/etc/csagent/conf.d/test.yaml && systemctl reload csagent.service")
        self.event(mark, event="reload")
        return mark

    def quiet(self, seconds: float = 1.5, wait: float = 60.0) -> None:
        """Wait until no pass is under way, and none has ended for a while."""
        self.shell.run(QUIET.format(tries=int(wait / seconds), seconds=seconds), 2 * wait)

    def daemon(self) -> Dict[str, Any]:
        """What the resident process costs."""
        pid = int(self.shell.run("systemctl show -p MainPID --value csagent.service"))
        text = self.shell.run(
            f"cd /proc/{pid} && cat stat && grep ^VmRSS status "
            "&& echo fds: $(ls fd | wc -l) && echo children: $(cat task/*/children)"
        )
        stat = text.split("\n")[0].rsplit(")", 1)[1].split()
        said = dict(line.split(":", 1) for line in text.splitlines()[1:] if ":" in line)
        return {
            "pid": pid,
            "cpu": (int(stat[11]) + int(stat[12])) / 100,
            "rss_kib": int(said["VmRSS"].split()[0]),
            "fds": int(said["fds"]),
            "children": said["children"].split(),
        }

    def wake_ups(self, pid: int, seconds: int) -> List[str]:
        """Each return of a process from its wait for something to happen, as the kernel traced it.

        Context switches would not do: a look at the drives has several, one for each answer of a CD drive.
        """
        calls = f"{TRACING}/events/syscalls/sys_exit_*select*/enable"
        traced = self.shell.run(
            f"cd {TRACING} && echo {pid} > set_event_pid && echo > trace && echo 1 | tee {calls} >&2 && "
            f"sleep {seconds} && cat trace && echo 0 | tee {calls} >&2 && echo > set_event_pid",
            3 * seconds,
        )
        return [line for line in traced.splitlines() if "select" in line and not line.startswith("#")]


@pytest.fixture(scope="module")
def guest(image: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A machine with a NIC, a config drive in its second CD drive, and a router that refuses so far."""
    directory = tmp_path_factory.mktemp("daemon")
    cloud = describe("vm-1", 1)
    with Namespace() as namespace:
        machine = Machine(
            image,
            directory,
            namespace,
            uuid=cloud.instance_id,
            drive=make_drive(directory, cloud),
            control=True,
        )
        with killed_at_end(machine):
            began = time.monotonic()
            machine.start()
            with machine.qmp() as qmp, machine.shell() as shell:
                told = Guest(machine, namespace, directory, qmp, shell)
                assert shell.wait(STATUS, '"password"', 0, 90), machine.console()
                shell.run("sed -i /pam_exec/d /etc/pam.d/chpasswd")  # it is another test's
                told.observe()
                took = time.monotonic() - began
                figure(f"booted after {took:.0f} s; the guest's clock says {told.now():.0f} s")
                yield told


@pytest.fixture(autouse=True)
def alive(guest: Guest) -> Iterator[None]:
    """Whatever a test does, afterwards it is the same process as before, unless the test restarts it."""
    before = guest.shell.run("systemctl show -p NRestarts -p ActiveState csagent.service")
    assert "ActiveState=active" in before or "ActiveState=reloading" in before
    yield
    assert guest.shell.run("systemctl show -p NRestarts --value csagent.service").strip() == "0"


def exchange(guest: Guest) -> Tuple[int, int]:
    """The guest lets go of the medium: nobody holds the drive open. It gets another."""
    image = guest.drive_of(guest.next_cloud())
    mark = guest.mark()
    guest.qmp.exchange("cd1", image)
    return mark


def test_exchange_while_the_router_is_waited_for(guest: Guest) -> None:
    """Soon after the boot, with a router that refuses: the new medium waits neither for it nor for a poll."""
    guest.in_time("exchange in the first two minutes", exchange(guest))


def test_exchange_with_the_router_turned_off(guest: Guest) -> None:
    """A drive-only machine that has settled: each datum within a second, the old key gone."""
    guest.settings("sources: [drive]\\nwait: 2\\n")
    guest.quiet()
    mark = exchange(guest)
    guest.in_time("exchange", mark)
    guest.quiet()
    assert guest.passes(guest.settled(mark) - 0.1, guest.now()) == 1
    guest.usual = guest.daemon()
    assert not guest.usual["children"]


@pytest.mark.parametrize("kind", ["scsi-cd", "virtio-blk-pci"])
def test_hot_plugged_drive(guest: Guest, kind: str) -> None:
    """A CD drive or a disk that comes is read at once, in one pass; when it goes nothing is taken back."""
    guest.qmp.exchange("cd1", None)
    guest.quiet()
    image = guest.drive_of(guest.next_cloud())
    mark = guest.mark()
    node = f"node-{guest.number}"
    file = {"driver": "file", "filename": str(image), "read-only": True}
    guest.qmp.execute("blockdev-add", **{"driver": "raw", "node-name": node, "read-only": True, "file": file})
    bus = {"bus": "scsi.0"} if kind == "scsi-cd" else {}
    guest.qmp.execute("device_add", driver=kind, id="hot", drive=node, **bus)
    guest.in_time(f"hot-plugged {kind}", mark)
    guest.quiet()
    # Where a device comes, udev may tell of it again after a second; what matters is that there is an end.
    assert 1 <= guest.passes(guest.settled(mark) - 0.1, guest.now()) <= 2
    before = guest.now()
    mark = guest.mark()
    guest.qmp.execute("device_del", id="hot")
    end = time.monotonic() + 60
    while True:
        try:
            guest.qmp.execute("blockdev-del", **{"node-name": node})
            break
        except RuntimeError:  # the guest has not let go of it yet
            assert time.monotonic() < end
            time.sleep(0.1)
    assert guest.shell.wait(UDEV, r"^UDEV  \[[0-9.]+\] remove .*block", mark[1])
    guest.quiet()
    assert 1 <= guest.passes(before, guest.now()) <= 2
    guest.agrees()
    assert "applied" not in guest.text(mark)


def test_medium_that_cannot_be_read(guest: Guest) -> None:
    """Errors on some sectors: a recorded reason, and the next medium is applied."""
    guest.qmp.exchange("cd1", None)
    image = guest.drive_of(guest.next_cloud())
    bad = image.read_bytes().find(str(guest.cloud.password).encode()) // 512
    assert bad > 0
    errors = [{"event": "read_aio", "errno": 5, "once": False, "sector": bad}]
    broken = {
        "driver": "blkdebug",
        "image": {"driver": "file", "filename": str(image)},
        "inject-error": errors,
    }
    mark = guest.mark()
    name = "json:" + json.dumps({"driver": "raw", "file": broken})
    guest.qmp.execute("blockdev-change-medium", device="cd1", filename=name)
    assert guest.shell.wait(UDEV, "ID_FS_LABEL=config-2", mark[1])
    guest.quiet()
    said = json.loads(guest.shell.run("csagent status --json", check=False))
    reasons = {refusal["datum"]: refusal["reason"] for refusal in said["refusals"]}
    assert "cannot be read (Input/output error)" in reasons["password"], said
    assert {name: said["data"][name]["state"] for name in DATA} == {
        "hostname": "applied",
        "ssh_keys": "applied",
        "password": "refused",
    }
    guest.in_time("exchange of a broken medium", exchange(guest))


def test_exchange_while_it_is_read(guest: Guest) -> None:
    """The medium is torn out in the middle of a slow read, and another one put in: that one is applied."""
    guest.quiet()
    guest.qmp.exchange("cd1", None)
    limits = {name: 0 for name in ("bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")}
    mark, slow = guest.mark(), guest.drive_of(guest.next_cloud())
    guest.qmp.insert("cd1", slow)
    guest.qmp.execute("block_set_io_throttle", device="cd1", bps=40_000, **limits)
    children = f"cat /proc/{guest.daemon()['pid']}/task/*/children >/run/csagent-test-children"
    until = f"{children}; [ -s /run/csagent-test-children ] && exit"
    guest.shell.run(f"for i in $(seq 12000); do {until}; sleep 0.05; done; exit 1", 600)
    last = guest.drive_of(guest.next_cloud())
    guest.qmp.eject("cd1")
    guest.qmp.insert("cd1", last)
    guest.qmp.execute("block_set_io_throttle", device="cd1", bps=0, **limits)
    assert guest.shell.wait("/etc/hostname", f"^{guest.cloud.hostname}$", 0, 60), guest.text(mark)
    assert guest.shell.wait(EVENTS, '"CSAGENT_DATUM":"password"', mark[0], 60)
    guest.quiet()
    guest.agrees()


def test_nic_whose_addresses_are_on_the_drive(guest: Guest) -> None:
    """Plugged, and named by a medium seconds later; the other way round; one that is gone loses its file.

    After all that the daemon is no larger.
    """
    guest.settings("sources: [drive]\\nwait: 2\\n")
    ends = {"udp": f"127.0.0.1:{segment.PORT}", "localaddr": f"127.0.0.1:{segment.QEMUS_PORT}"}
    guest.qmp.execute("netdev_add", type="socket", id="segment", **ends)
    wire = guest.namespace.call(lambda: Segment(["10.7.0.1"]))
    with contextlib.closing(wire):
        guest.plug("nic3", segment.MAC)
        guest.quiet()
        mark = guest.network_medium(segment.MAC, "10.7.0.21/24")
        guest.network_applied("medium behind its NIC", mark)
        assert wire.answers("10.7.0.21", 60)

        guest.qmp.execute("device_del", id="nic3")
        guest.shell.run(f"until ! grep -q {segment.MAC} /sys/class/net/*/address; do sleep 0.1; done", 60)
        mark = guest.network_medium(LATER_MAC, "10.7.0.31/24")
        guest.event(mark, event="applied", datum="network")
        assert networkd.PREFIX not in guest.shell.run(f"ls {networkd.DIRECTORY}")
        mark = guest.mark()
        guest.plug("nic4", LATER_MAC)
        guest.event(mark, event="applied", datum="network")
        assert wire.answers("10.7.0.31", 60)
        assert set(guest.shell.run("ls /sys/class/net").split()) <= {
            "lo",
            *(f"ens{slot}" for slot in range(32)),
        }
        guest.qmp.execute("device_del", id="nic4")
        guest.shell.run(f"until ! grep -q {LATER_MAC} /sys/class/net/*/address; do sleep 0.1; done", 60)
        guest.quiet()
    if guest.usual:
        end = time.monotonic() + 600
        while (now := guest.daemon())["fds"] != guest.usual["fds"]:  # a pass may be on its way just now
            assert time.monotonic() < end, now
        assert now["pid"] == guest.usual["pid"]
        assert now["rss_kib"] < guest.usual["rss_kib"] + 1024


def test_clock_that_jumps(guest: Guest) -> None:
    """Ten years ahead and back: a pass each, nothing is applied anew, and no harm."""
    guest.quiet()
    for way in ("+10 years", "-10 years"):
        mark, began = guest.mark(), guest.now()
        until = f'while [ "$({WRITTEN})" = "$was" ]; do sleep 0.2; done'  # events before it may put it off
        guest.shell.run(f"was=$({WRITTEN}); date -s '{way}'; {until}", 90)
        guest.quiet()
        assert 1 <= guest.passes(began, guest.now()) <= 3, way
        assert "applied" not in guest.text(mark)
    guest.agrees()


def test_daemon_is_small_and_still(guest: Guest) -> None:
    """At most 16 MiB after all that, and nothing wakes it but the slow look at the drives and the watchdog.

    The poll is off, and no source is missing, which would be asked for again. A forced eject, of which udev
    does not hear, is what the slow look is there for.
    """
    guest.settings("sources: [drive]\\npoll: 0\\n")
    guest.quiet()
    guest.shell.run("systemctl stop csagent-test-samples.service")
    first, began = guest.daemon(), guest.now()
    woken = guest.wake_ups(first["pid"], QUIET_TIME)
    second, took = guest.daemon(), guest.now() - began
    cpu = (second["cpu"] - first["cpu"]) / took
    figure(
        f"resident: {second['rss_kib']} KiB, {second['fds']} descriptors; "
        f"idle: {100 * cpu:.3f} % of the processor, woken {len(woken)} times in {took:.0f} s"
    )
    assert second["rss_kib"] <= 16 * 1024
    assert len(woken) <= 2, woken
    assert cpu <= 0.0005 * (TODAY if "-icount" in steady() else 1.0)
    assert second["children"] == []
    mark, began = guest.mark(), guest.now()
    guest.qmp.eject("cd1")
    guest.shell.run(f'was=$({WRITTEN}); while [ "$({WRITTEN})" = "$was" ]; do sleep 0.5; done', 70)
    figure(f"a forced eject was noticed after {guest.now() - began:.0f} s")
    guest.agrees()
    assert "applied" not in guest.text(mark)
