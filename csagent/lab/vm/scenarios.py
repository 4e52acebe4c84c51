"""Two stories of a template: with a virtual router, and with a config drive only."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Callable, List, Tuple

from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter, Request
from csagent.lab.vm import checks, user_data
from csagent.lab.vm.checks import FAIL, PASS, SKIP
from csagent.lab.vm.guest import Guest
from csagent.lab.vm.machine import Machine
from csagent.lab.vm.media import make_drive
from csagent.lab.vm.scenario import LOOK_PAUSE, SETTLED, Story
from csagent.lab.vm.traffic import asked
from csagent.lab.vm.user_data_story import UserDataStory


class Listening(LabRouter):
    """The lab's router; it remembers when the password server was asked for what."""

    def __init__(self, cloud: Cloud, say: Callable[[str], None]) -> None:
        super().__init__(cloud, "127.0.0.1", 80, 8080, log=say)
        self.heard: List[Tuple[float, str]] = []

    def record(self, request: Request) -> None:
        if request.server == "password":
            self.heard.append((time.time(), request.what))
        super().record(request)


class RouterStory(Story):
    """DHCP and a virtual router; password and key pair are reset while the machine is off."""

    name = "router"
    listens = True
    given = user_data.QUICK

    def tell_it(self, machine: Machine) -> None:
        router = Listening(self.cloud, self._log)
        with router:
            guest, look = self.first_boot(machine, lambda: bool(router.acknowledged))
            self.judge("told", checks.told(look, router.heard))
            self.judge("network", checks.network(asked(self.directory / "network-1.pcap")))
            found = user_data.see(guest, self.setup.patience, own=True)
            self.judge("user-data", user_data.ran(found, own=True))
            self.owner_changes(guest)
            self.off(guest)
            router.cloud = self.reset(self.cloud)
            guest, wrong = self.boot(machine, self.keys[1], spare=self.own)
            look = self.after_reset(guest, wrong, time.monotonic() - machine.seconds)
            self.owners(look)
            found = user_data.see(guest, self.setup.patience, own=True)
            self.judge("user-data-again", user_data.again(found, own=True))
            self.leaks()
            self.off(guest)

    def _log(self, line: str) -> None:
        with open(self.directory / "router.log", "a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")
        self.setup.say(f"router: {line}")


class DriveStory(Story):
    """A config drive and a router that is out of reach; the medium is exchanged while the machine runs.

    The power is cut in the middle of its user-data.
    """

    name = "drive"
    reachable = False
    given = user_data.ENDLESS

    def tell_it(self, machine: Machine) -> None:
        machine.drive = self._medium("first", self.cloud)
        guest, look = self.first_boot(machine, lambda: True)
        self.owner_changes(guest)
        medium = self._medium("second", self.reset(self.cloud))
        if checks.resident(look):
            since = time.monotonic()
            with machine.qmp() as qmp:
                qmp.exchange("cd1", medium)
            wrong, took = self._noticed(guest, since)
            machine.drive = medium
            late = (FAIL, f"nothing has come of it after {took:.0f} s")
            self.judge("exchange", late if wrong else (PASS, "the new key is in place"), took)
        else:
            self.judge("exchange", (SKIP, "no daemon of csagent in it; a power cycle instead"))
            self.off(guest)
            machine.drive = medium
            guest, wrong = self.boot(machine, self.keys[1], spare=self.own)
            since = time.monotonic() - machine.seconds
        self.after_reset(guest, wrong, since)
        own = f"marker-{secrets.token_hex(6)}-EXAMPLE"
        guest.run("chpasswd", f"{self.setup.user}:{own}\n")
        self.passwords.append(own)
        self.cut(machine, guest)
        guest, _ = self.boot(machine, self.keys[1], spare=self.own)
        look, _ = self.look(guest, lambda _: True, SETTLED)
        self.owners(look)
        self.judge("own-password", checks.password(look, own))
        self.judge("interrupted", user_data.interrupted(user_data.see(guest, self.setup.patience, own=True)))
        self.leaks()
        self.off(guest)

    def _medium(self, name: str, cloud: Cloud) -> Path:
        directory = self.directory / name
        directory.mkdir()
        return make_drive(directory, cloud)

    def _noticed(self, guest: Guest, since: float) -> Tuple[str, float]:
        """Whether the new key is in the file and opens a login: what is wrong, and how long it took."""
        wanted = self.keys[1].public
        end = since + self.setup.patience
        while checks.keys(guest.look(), wanted)[0] != PASS and time.monotonic() < end:
            time.sleep(LOOK_PAUSE)
        took = time.monotonic() - since
        return guest.try_key(self.keys[1]), took


STORIES = (RouterStory, DriveStory, UserDataStory)
