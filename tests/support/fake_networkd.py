"""A machine with systemd-networkd that is not there: a kernel, a manager and gateways, in memory.

The files of the NIC lie in a tree; `networkctl reload` makes the kernel's state of what they say, or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

import pytest

from csagent.apply.network import kernel, probe
from csagent.apply.network.kernel_state import Kernel, LinkSeen
from csagent.apply.network.machine import Assigned, Hop
from csagent.apply.network.renderers import networkd
from csagent.system.seams import Clock, Completed, Runner, System
from csagent.system.tree import READ_LIMIT, Tree
from support.network_nics import MAC

IFINDEX = 2
LISTING = b"  2 ens3 ether routable %s\n"


class FakeClock(Clock):
    """Time passes where somebody sleeps."""

    def __init__(self) -> None:
        self.passed = 1000.0

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


class Killed(BaseException):
    """The process is gone: nothing behind this line happens."""


class FakeNetworkd(Runner):
    """networkctl and systemctl of that machine, and what its kernel has."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root.mkdir(exist_ok=True)
        tree = Tree(str(root))
        tree.live = True  # it is taken for the running system
        self.system = System(tree=tree, clock=FakeClock(), runner=self)
        self.commands: List[Tuple[str, ...]] = []
        self.gateways: Set[str] = set()  # those that answer
        self.addresses: Tuple[Assigned, ...] = ()
        self.hops: Tuple[Hop, ...] = ()
        self.deaf = 0  # so many reloads have no effect
        self.fails = False  # networkctl does
        self.active = True
        self.killed_at: Optional[str] = None  # a command at which csagent is killed
        monkeypatch.setattr(kernel, "look", lambda _system: self.seen())
        monkeypatch.setattr(kernel, "answers", lambda _index, gateway: gateway in self.gateways or None)
        monkeypatch.setattr(probe, "_ask", lambda _index, _gateway: None)

    def seen(self) -> Kernel:
        link = LinkSeen("ens3", IFINDEX, MAC, 1500)
        return Kernel((link,), {IFINDEX: self.addresses}, {IFINDEX: self.hops})

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = READ_LIMIT
    ) -> Completed:
        words = tuple(argv)
        self.commands.append(words)
        if self.killed_at is not None and self.killed_at in words:
            raise Killed
        if words[0] == "systemctl":
            state = "active" if self.active else "inactive"
            unit = (
                f"Id=systemd-networkd.service\nLoadState=loaded\nActiveState={state}\nUnitFileState=enabled\n"
            )
            return Completed(0, unit.encode(), b"")
        if words[0] != "networkctl" or self.fails:
            return Completed(1, b"", b"no such bus")
        if "list" in words:
            return Completed(0, LISTING % (b"configured" if self.file() else b"configuring"), b"")
        if "status" in words:
            path = networkd.path(MAC) if self.file() else "/etc/systemd/network/80-all.network"
            return Completed(0, f"  Network File: {path}\n".encode(), b"")
        if self.deaf:
            self.deaf -= 1
        else:
            self.take()
        return Completed(0, b"", b"")

    def file(self) -> Optional[str]:
        return self.system.tree.read_text(networkd.path(MAC))

    def take(self) -> None:
        """What a reload does."""
        text = self.file() or ""
        said: Dict[str, List[str]] = {}
        for line in text.split("\n"):
            key, _, value = line.partition("=")
            said.setdefault(key, []).append(value)
        self.addresses = tuple(Assigned(one) for one in said.get("Address", ()))
        metrics = said.get("Metric", [])
        self.hops = tuple(
            Hop(6 if ":" in one else 4, one, int(metric))
            for one, metric in zip(said.get("Gateway", ()), metrics)
        )

    def reloads(self) -> int:
        """How often it was told to read its files."""
        return self.commands.count(("networkctl", "reload"))
