"""What the stories of a template have in common: a machine, its guest, and what is judged of it."""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from csagent.errors import CsagentError
from csagent.lab.cloud import Cloud
from csagent.lab.vm import checks, user_data
from csagent.lab.vm import guest as guests
from csagent.lab.vm.accelerator import accelerator
from csagent.lab.vm.checks import FAIL, PASS, SCENARIOS, SKIP, PromiseResult
from csagent.lab.vm.guest import Guest, KeyPair, key_pair
from csagent.lab.vm.inspect_guest import Look
from csagent.lab.vm.machine import Machine, Template, killed_at_end, nic, user_network
from csagent.lab.vm.traffic import dump

SSH_PORT = {"router": 2201, "drive": 2202, "user-data": 2203, "network": 2204}
LOOK_PAUSE = 1.0
RESTARTS = 3  # of a boot that the emulation held up
OWNERS_NAME = "owners-choice"


@dataclass(frozen=True)
class Setup:
    """What both stories are told with; times are in seconds."""

    template: Template
    scratch: Path
    user: str
    memory: str
    cpu: str  # where there is no KVM
    timeout: float  # from power-on to a login
    patience: float  # from there to everything else
    emulated: bool
    tell: Callable[[PromiseResult], None]
    say: Callable[[str], None]
    user_data: Optional[bytes] = None  # a builder's document


# Everything that starts has started, but for user-data, and csagent has made its first pass.
SETTLED = """
for try in $(seq 60); do
    jobs=$(systemctl list-jobs --no-legend 2>/dev/null | grep running)
    printf '%s' "$jobs" | grep -qv -e csagent-user-data -e cloud-final || break
    sleep 1
done
command -v csagent >/dev/null && csagent -q status --wait 60 >/dev/null 2>&1
exit 0
"""


class Story:
    """One machine from its first boot on. `first` is there once somebody has logged in."""

    name = ""
    reachable = True
    listens = False  # as a virtual router, at the one address and the two ports that there are for one
    given = b""  # the lab's own user-data

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.directory = setup.scratch / self.name
        self.directory.mkdir()
        self.keys = [key_pair(self.directory / f"key-{number}", f"lab-{number}") for number in (1, 2)]
        self.own = key_pair(self.directory / "key-owner", "owner")
        self.passwords = [f"marker-{secrets.token_hex(6)}-EXAMPLE" for _ in range(2)]
        self.cloud = Cloud(
            instance_id=str(uuid.uuid4()),
            hostname=f"lab-{self.name}",
            ssh_keys=(self.keys[0].public,),
            password=self.passwords[0],
            user_data=self.given or setup.user_data or b"",
        )
        self.first: Optional[Look] = None
        self.machine: Optional[Machine] = None
        self._looks: List[Look] = []
        self._told: List[str] = []

    # --- what both have in common ---

    def run(self) -> None:
        """Tell it; every promise of the scenario is judged or, once it cannot go on, skipped."""
        wrong = ""
        try:
            network = user_network(ports=[(SSH_PORT[self.name], 22)], reachable=self.reachable)
            self.machine = Machine(
                self.setup.template,
                self.directory,
                uuid=self.cloud.instance_id,
                devices=["-netdev", network, *nic(), *self.wires()],
                memory=self.setup.memory,
                processor=accelerator(self.setup.cpu),
                life=2 * self.setup.timeout + 10 * self.setup.patience,
            )
            with killed_at_end(self.machine):
                self.tell_it(self.machine)
        except (CsagentError, OSError, RuntimeError, ValueError) as error:
            wrong = " ".join(str(error).split())
        for name in SCENARIOS[self.name]:
            if name not in self._told:
                self.judge(name, (FAIL, wrong) if wrong else (SKIP, "it did not come to that"))
                wrong = ""

    def wires(self) -> List[str]:
        """QEMU's words for further NICs."""
        return []

    def tell_it(self, machine: Machine) -> None:
        """The story itself.

        Raises:
            CsagentError: it cannot go on.
        """
        raise NotImplementedError

    def judge(self, name: str, judgement: checks.Judgement, seconds: Optional[float] = None) -> None:
        """Report a promise."""
        self._told.append(name)
        self.setup.tell(PromiseResult(self.name, name, *judgement, seconds=seconds))

    def boot(self, machine: Machine, key: KeyPair, *, spare: Optional[KeyPair] = None) -> Tuple[Guest, str]:
        """Switch on and log in; with a spare key where the key does not do. The guest, and what was wrong.

        Raises:
            CsagentError: nobody got in.
        """
        machine.start(*dump(machine.directory / f"network-{machine.boots + 1}.pcap"))
        self.setup.say(f"{self.name}: power on")
        guest = Guest(machine, SSH_PORT[self.name], self.setup.user)
        while not guest.banner(self.setup.timeout):
            if not machine.held_up or machine.restarts == RESTARTS:
                tries = f", switched on again {machine.restarts} times" if machine.restarts else ""
                raise CsagentError(f"no sshd after {machine.seconds:.0f} s{tries}; {_last_words(machine)}")
            self.setup.say(f"{self.name}: its kernel had no emulated timer in time; power on again")
            machine.start_again()
        self.setup.say(f"{self.name}: sshd answers after {machine.seconds:.0f} s")
        until = machine.seconds + self.setup.patience
        wrong = guest.login(key, until)
        if wrong and (spare is None or guest.login(spare, machine.seconds + self.setup.patience)):
            raise CsagentError(checks.no_login(self.setup.user, machine.seconds, wrong))
        return guest, wrong

    def look(self, guest: Guest, until: Callable[[Look], bool], then: str = "") -> Tuple[Look, float]:
        """Look again and again until it is so, or patience ends; then at everything, and how long it took.

        `then` is run in the guest before that.
        """
        began = time.monotonic()
        while not until(guest.look()) and time.monotonic() < began + self.setup.patience:
            time.sleep(LOOK_PAUSE)
        took = time.monotonic() - began
        if then:
            guest.run(then)
        look = guest.look(self.passwords, everything=True)
        self._looks.append(look)
        return look, took

    def first_boot(self, machine: Machine, done: Callable[[], bool]) -> Tuple[Guest, Look]:
        """The promises that a new instance is given."""
        guest, _ = self.boot(machine, self.keys[0])
        in_after = machine.seconds
        self.judge("login", (PASS, f"as {self.setup.user}, with a key of CloudStack's"), in_after)
        name, password = self.cloud.hostname, self.passwords[0]

        def agrees(look: Look) -> bool:
            judged = (checks.hostname(look, name), checks.password(look, password))
            return all(state != FAIL for state, _ in judged) and done()

        look, took = self.look(guest, agrees, SETTLED)
        self.first = look
        self.judge("hostname", checks.hostname(look, name), in_after + took)
        self.judge("password", checks.password(look, password), in_after + took)
        self.judge("boot", checks.boot(look, self.setup.emulated))
        self.judge("status", checks.status(look))
        return guest, look

    def owner_changes(self, guest: Guest) -> None:
        """What the owner of a machine does: another key, another name."""
        guest.run(guests.ADD_KEY, line=self.own.public)
        guest.run(guests.CHANGE_NAME, name=OWNERS_NAME)

    def reset(self, cloud: Cloud) -> Cloud:
        """As CloudStack has it after a reset of password and key pair."""
        return replace(cloud, password=self.passwords[1], ssh_keys=(self.keys[1].public,))

    def after_reset(self, guest: Guest, wrong: str, since: float, took: Optional[float] = None) -> Look:
        """The promises about a reset, `since` being the moment of power-on or of the change."""
        told = (FAIL, wrong) if wrong else (PASS, "it is let in")
        self.judge("new-key", told, time.monotonic() - since if took is None else took)
        look, more = self.look(guest, lambda look: checks.password(look, self.passwords[1])[0] != FAIL)
        at = time.monotonic() - since if took is None else took + more
        self.judge("new-password", checks.password(look, self.passwords[1]), at)
        said = guest.try_key(self.keys[0])
        refused = (PASS, "denied") if said == "denied" else (FAIL, said or "it still opens a login")
        self.judge("old-key", refused)
        return look

    def owners(self, look: Look) -> None:
        """The promises about what the owner chose."""
        self.judge("own-key", checks.keys(look, self.own.public))
        self.judge("own-name", checks.hostname(look, OWNERS_NAME))

    def leaks(self) -> None:
        """The promise about secrets, of all looks."""
        self.judge("secrets", checks.secrets(self._looks))

    def cut(self, machine: Machine, guest: Guest) -> None:
        """Cut the power, once user-data is at its endless work and the rest is on the disk."""
        guest.run(user_data.BEGUN)
        guest.leave()
        machine.kill()

    def off(self, guest: Guest) -> None:
        """Have it switch itself off."""
        if not guest.power_off(self.setup.patience):
            self.setup.say(f"{self.name}: it did not go off, the power was cut")


def _last_words(machine: Machine) -> str:
    lines: Sequence[str] = [line for line in machine.console().splitlines() if line.strip()]
    return f"the console ends with: {lines[-1].strip()[:120]}" if lines else "its console is silent"
