"""Packages: apt-get or dnf, unattended, patient with whoever holds the lock (field/user-data#U39)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Sequence, Tuple

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

LOCK_SECONDS = 600
REBOOT_FILES = ("/var/run/reboot-required", "/run/reboot-needed")
REBOOT_SECONDS = 600.0  # a shutdown that begins ends this process

ENVIRONMENT: Dict[str, str] = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "a",
    "UCF_FORCE_CONFFOLD": "1",
}
APT = (
    "apt-get",
    "--option=Dpkg::Options::=--force-confold",
    f"--option=DPkg::Lock::Timeout={LOCK_SECONDS}",
    "--assume-yes",
    "--quiet",
)
DNF = ("dnf", "--assumeyes", "--quiet")


def _apt(machine: "Machine", *words: str) -> None:
    machine.command([*APT, *words], environment=ENVIRONMENT)


def _dnf(machine: "Machine", *words: str) -> None:
    tool = "dnf" if machine.system.runner.available("dnf") or not machine.system.live else "yum"
    machine.command([tool, *DNF[1:], *words], environment=ENVIRONMENT)


def _known(machine: "Machine", family: str) -> None:
    if family not in ("debian", "redhat"):
        machine.fail("neither apt-get nor dnf: packages are not known on this distribution")


class RefreshIndex(NamedTuple):
    """Fetch what the repositories have."""

    family: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        _known(machine, self.family)
        if self.family == "debian":
            _apt(machine, "update")
        else:
            _dnf(machine, "makecache")


class UpgradePackages(NamedTuple):
    """Upgrade everything that is installed."""

    family: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        _known(machine, self.family)
        if self.family == "debian":
            _apt(machine, "dist-upgrade")
        else:
            _dnf(machine, "upgrade")


class InstallPackages(NamedTuple):
    """Install packages. Those that cannot be had are named, and the others are installed all the same."""

    family: str
    names: Tuple[str, ...]

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        _known(machine, self.family)
        install = self._apt if self.family == "debian" else self._dnf
        if machine.tries(lambda: install(machine, self.names)) or not machine.system.live:
            return
        good, bad = self._sorted(machine)
        if good and bad:
            install(machine, good)
        elif not bad:
            machine.fail("the packages could not be installed; the log says why")
        said = ", ".join(name[:80] for name in bad)
        machine.fail(f"no repository has {said}", count=(len(bad), len(self.names)))

    def _apt(self, machine: "Machine", names: Sequence[str]) -> None:
        _apt(machine, "install", "--", *names)

    def _dnf(self, machine: "Machine", names: Sequence[str]) -> None:
        _dnf(machine, "install", "--", *names)

    def _sorted(self, machine: "Machine") -> Tuple[List[str], List[str]]:
        """Which of them can be had, each looked at alone, and which cannot."""
        good: List[str] = []
        bad: List[str] = []
        for name in self.names:
            words = ["apt-get", "--simulate", "--quiet", "install", "--", name]
            if self.family == "redhat":
                words = ["dnf", "--quiet", "--assumeno", "repoquery", "--available", "--", name]
            done = machine.system.runner.run(words, timeout=float(LOCK_SECONDS))
            there = done.code == 0 and (self.family == "debian" or bool(done.output.strip()))
            (good if there else bad).append(name)
        return good, bad


class RebootIfRequired(NamedTuple):
    """Reboot at once where a package has asked for it (field/user-data#U64).

    What had not begun runs at the next boot.
    """

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if any(machine.system.tree.exists(path) for path in REBOOT_FILES):
            machine.say("csagent: a package asks for a reboot\n")
            machine.ending(["reboot"], REBOOT_SECONDS)
