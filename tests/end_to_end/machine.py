"""One machine from its first boot on: started, looked at by itself, off again, and started once more."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

from cases import EMPTY, GATEWAYS, LARGER, ROUTER, Case
from support.debian_image import run
from support.name_server import NameServer

from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.lab.vm import machine as lab
from csagent.lab.vm import segment
from csagent.lab.vm.media import make_drive
from csagent.lab.vm.namespace import Namespace
from csagent.lab.vm.segment import Segment

BOOTS = 2
RESTARTS = 3  # of a boot whose kernel the emulation held up
END = b"\nend of report"
MEMORY = "768M"
PROCESSOR = ("-accel", "tcg,thread=single", "-cpu", "Nehalem,+rdrand")
# QEMU asks the first name server of /etc/resolv.conf for the guest.
RESOLVER = "nameserver 127.0.0.1\n"
REBIND = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
WORKER = '#!/bin/sh\necho "k8s-worker $*" >>/var/tmp/order\n'


class Report(NamedTuple):
    """What one boot of a machine gave."""

    guest: Dict[str, Any]  # as guest/look writes it
    serial: str
    acknowledged: int  # how often the password server was told, since the first boot
    reached: List[str]  # addresses that the guest answers for by ARP, on networks without DHCP
    seconds: float  # of this machine's, from power-on to off


class Failed(RuntimeError):
    """A boot without a report; in it the end of the console."""


def boots(template: Path, case: Case, cloud: Cloud, source: str, deadline: float) -> Iterator[Report]:
    """Boot a copy of the template so often, and give what each boot has reported.

    Raises:
        Failed: no report by the deadline, in seconds from power-on.
    """
    scratch = Path(tempfile.mkdtemp(prefix="csagent-e2e-", dir="/tmp"))
    try:
        with contextlib.ExitStack() as stack:
            namespace = stack.enter_context(Namespace())
            router = LabRouter(cloud, "127.0.0.1", 80, 8080)
            wires: List[Segment] = []
            if source == ROUTER:
                namespace.call(router.start)
                stack.callback(router.stop)
                stack.callback(namespace.call(NameServer).close)
            for number in range(len(case.network.nics)):
                wires.append(namespace.call(lambda at=number: Segment([GATEWAYS[at]], at)))
                stack.callback(wires[-1].close)
            machine = _machine(template, scratch, case, cloud, source, namespace, deadline)
            stack.enter_context(lab.killed_at_end(machine))
            binaries = _binaries(scratch) if case.binaries else None
            for _ in range(BOOTS):
                yield _boot(machine, deadline, binaries, router, wires, case)
                binaries = None  # CloudStack detaches it once the node is set up
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _machine(
    template: Path,
    scratch: Path,
    case: Case,
    cloud: Cloud,
    source: str,
    namespace: Namespace,
    deadline: float,
) -> lab.Machine:
    if case.network.nics:
        devices = [
            word for number, nic in enumerate(case.network.nics) for word in segment.devices(number, nic.mac)
        ]
    else:
        devices = ["-netdev", lab.user_network(reachable=source == ROUTER), *lab.nic()]
    if case.larger:
        data = scratch / "data.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", data, str(EMPTY)], 60)
        devices += ["-drive", f"file={data},if=virtio,format=qcow2,cache=unsafe,index=1"]
    resolver = scratch / "resolv.conf"
    resolver.write_text(RESOLVER)

    def enter(words: Sequence[str]) -> List[str]:
        return namespace.command(["unshare", "--mount", "sh", "-c", REBIND, str(resolver), *words])

    machine = lab.Machine(
        lab.Template(template, "raw"),
        scratch,
        uuid=cloud.instance_id,
        devices=devices,
        drive=None if source == ROUTER else make_drive(scratch, cloud),
        memory=MEMORY,
        processor=PROCESSOR,
        life=deadline + 15,
        enter=enter,
    )
    if case.larger:
        run(["qemu-img", "resize", "-q", machine.disk, str(LARGER)], 60)
    return machine


def _boot(
    machine: lab.Machine,
    deadline: float,
    binaries: "Path | None",
    router: LabRouter,
    wires: List[Segment],
    case: Case,
) -> Report:
    machine.start("-serial", f"file:{machine.directory / 'report'}")
    if binaries is not None:
        with machine.qmp() as qmp:
            qmp.exchange("cd0", binaries)
    reached: List[str] = []
    while machine.running and machine.seconds < deadline:
        machine.wait_off(min(deadline, machine.seconds + 5))
        for wire, nic in zip(wires, case.network.nics):
            own = nic.addresses[0].partition("/")[0]
            if own not in reached and machine.running and wire.answers(own, 0.5):
                reached.append(own)
        if machine.held_up and machine.restarts < RESTARTS:
            machine.start_again()
    seconds = machine.seconds
    machine.kill()
    report = machine.directory / "report"
    raw = report.read_bytes() if report.exists() else b""
    if END not in raw:
        raise Failed(f"no report from boot {machine.boots} after {seconds:.0f} s\n{machine.console()}")
    report.unlink()
    found: Dict[str, Any] = json.loads(raw.split(END)[0])
    return Report(found, machine.text("serial"), len(router.acknowledged), sorted(reached), seconds)


def _binaries(scratch: Path) -> Path:
    """An ISO of the shape of CloudStack's Kubernetes ISOs, with a stand-in for what joins the cluster."""
    tree, image = scratch / "binaries", scratch / "binaries.iso"
    for name in ("k8s/worker", "cni/cni-plugin"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text(WORKER)
    command = ["genisoimage", "-quiet", "-J", "-r", "-V", "CDROM", "-o", str(image), str(tree)]
    subprocess.run(command, check=True, timeout=600, stdin=subprocess.DEVNULL, capture_output=True)
    return image
