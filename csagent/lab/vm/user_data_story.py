"""The story of a builder's own document: behind a virtual router, over two boots."""

from __future__ import annotations

from csagent.lab.router import LabRouter
from csagent.lab.vm import user_data
from csagent.lab.vm.checks import PASS
from csagent.lab.vm.machine import Machine
from csagent.lab.vm.scenario import Story


class UserDataStory(Story):
    """It runs at the first boot and is left alone at the second one."""

    name = "user-data"
    listens = True

    def tell_it(self, machine: Machine) -> None:
        with LabRouter(self.cloud, "127.0.0.1", 80, 8080):
            guest, _ = self.boot(machine, self.keys[0])
            at = machine.seconds
            self.judge("login", (PASS, f"as {self.setup.user}, with a key of CloudStack's"), at)
            self.setup.say("user-data: waiting for it to end")
            found = user_data.see(guest, self.setup.patience, own=False)
            self.judge("user-data", user_data.ran(found, own=False), machine.seconds)
            self.off(guest)
            guest, _ = self.boot(machine, self.keys[0])
            found = user_data.see(guest, self.setup.patience, own=False)
            self.judge("user-data-again", user_data.again(found, own=False))
            self.off(guest)
