"""The story of a NIC without DHCP: its addresses are on the config drive, and change with the medium."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from csagent.lab import network_data
from csagent.lab.cloud import Cloud
from csagent.lab.network_data import BY_DRIVE, BY_ROUTER, CloudNetwork, CloudNic
from csagent.lab.vm import checks, segment
from csagent.lab.vm.checks import FAIL, PASS, SKIP, Judgement
from csagent.lab.vm.guest import Guest
from csagent.lab.vm.machine import MAC, Machine
from csagent.lab.vm.media import make_drive
from csagent.lab.vm.scenario import LOOK_PAUSE, SETTLED, Story
from csagent.lab.vm.segment import Segment

FIRST, CHANGED, BAD = "10.7.0.21", "10.7.0.22", "10.7.0.66"
GATEWAY, NOBODY = "10.7.0.1", "10.7.0.77"
ASKED = 2.0  # seconds that a guest has to answer ARP
NAMES = "ls /sys/class/net"
STATUS = "command -v csagent >/dev/null && csagent status --json; exit 0"


class NetworkStory(Story):
    """The first NIC is the drive story's; the second one is on a segment with a gateway and no DHCP."""

    name = "network"
    reachable = False

    def wires(self) -> List[str]:
        return segment.devices()

    def tell_it(self, machine: Machine) -> None:
        machine.drive = self._medium("first", FIRST, GATEWAY)
        with Segment([GATEWAY]) as wire:
            guest, _ = self.boot(machine, self.keys[0])
            at = machine.seconds
            self.judge("login", (PASS, f"as {self.setup.user}, with a key of CloudStack's"), at)
            took = self._until(lambda: wire.answers(FIRST, ASKED))
            self.judge("addresses", self._has(wire, guest, FIRST), at + took)
            look, _ = self.look(guest, lambda _: True, SETTLED)
            if not checks.resident(look):
                for name in ("addresses-changed", "bad-gateway", "addresses-boot"):
                    self.judge(name, (SKIP, "no daemon of csagent in it"))
                self.off(guest)
                return
            self._exchange(machine, "second", CHANGED, GATEWAY)
            took = self._until(lambda: wire.answers(CHANGED, ASKED))
            self.judge("addresses-changed", self._has(wire, guest, CHANGED, instead_of=FIRST), took)
            self._exchange(machine, "third", BAD, NOBODY)
            took = self._until(lambda: nic_state(guest.run(STATUS))[0] == "failed")
            self.judge("bad-gateway", self._is_back(wire, guest), took)
            names = guest.run(NAMES)
            self.off(guest)
            guest, _ = self.boot(machine, self.keys[0])
            at = machine.seconds
            took = self._until(lambda: wire.answers(CHANGED, ASKED))
            judgement = self._has(wire, guest, CHANGED, instead_of=BAD)
            now = guest.run(NAMES)
            if judgement[0] == PASS and now != names:
                judgement = FAIL, f"its NICs were {' '.join(names.split())}, and are {' '.join(now.split())}"
            self.judge("addresses-boot", judgement, at + took)
            self.off(guest)

    def _medium(self, name: str, address: str, gateway: str) -> Path:
        """A drive whose second NIC has this address; the first one's is the router's business."""
        nics = (
            CloudNic(MAC, BY_ROUTER),
            CloudNic(segment.MAC, BY_DRIVE, (f"{address}/24",), (gateway,)),
        )
        network = CloudNetwork(nics, form=network_data.PER_NIC)
        directory = self.directory / name
        directory.mkdir()
        cloud: Cloud = replace(self.cloud, network=network)
        return make_drive(directory, cloud)

    def _exchange(self, machine: Machine, name: str, address: str, gateway: str) -> None:
        medium = self._medium(name, address, gateway)
        with machine.qmp() as qmp:
            qmp.exchange("cd1", medium)
        machine.drive = medium

    def _until(self, condition: Callable[[], bool]) -> float:
        """Ask again and again until it is so, or patience ends; how long it took."""
        began = time.monotonic()
        while not condition() and time.monotonic() < began + self.setup.patience:
            time.sleep(LOOK_PAUSE)
        return time.monotonic() - began

    def _has(self, wire: Segment, guest: Guest, address: str, instead_of: str = "") -> Judgement:
        if not wire.answers(address, ASKED):
            state, reason = nic_state(guest.run(STATUS))
            return FAIL, f"its NIC does not answer for {address}" + (f": {state}: {reason}" if state else "")
        if instead_of and wire.answers(instead_of, ASKED):
            return FAIL, f"its NIC answers for {instead_of}, too"
        return PASS, f"its NIC answers for {address}"

    def _is_back(self, wire: Segment, guest: Guest) -> Judgement:
        state, reason = nic_state(guest.run(STATUS))
        if state != "failed" or NOBODY not in reason:
            return FAIL, f"csagent says {state or 'nothing'} of it: {reason}"
        return self._has(wire, guest, CHANGED, instead_of=BAD)


def nic_state(text: str) -> Tuple[str, str]:
    """What `csagent status --json` says of the segment's NIC: its state and why; empty: nothing."""
    try:
        nics: List[Dict[str, Any]] = json.loads(text)["data"]["network"]["nics"]
        return next((str(nic["state"]), str(nic["reason"])) for nic in nics if nic["mac"] == segment.MAC)
    except (ValueError, KeyError, TypeError, StopIteration):
        return "", ""
