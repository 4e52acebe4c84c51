"""Whether the services that configure networks run, or will: systemd's word, else the links of a tree."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple

from csagent.system.seams import System
from csagent.system.systemd import is_masked

NETWORKD = "systemd-networkd.service"
NETWORKMANAGER = "NetworkManager.service"
IFUPDOWN = "networking.service"
RESOLVED = "systemd-resolved.service"
OTHERS = {
    "dhcpcd": ("dhcpcd.service",),
    "connman": ("connman.service",),
    "wicked": ("wickedd.service", "wicked.service"),
}
ALL = (NETWORKD, NETWORKMANAGER, IFUPDOWN, RESOLVED, *(unit for units in OTHERS.values() for unit in units))
COMMAND = ("systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *ALL)
UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system")
ENABLED = ("enabled", "enabled-runtime", "alias")


class Unit(NamedTuple):
    """A service: `active` now, or `enabled`, so that it will be."""

    active: bool = False
    enabled: bool = False
    masked: bool = False


NOT_THERE = Unit()


class Units(NamedTuple):
    """All of them. `asked`: systemd has said so, and not only the links in /etc."""

    units: Mapping[str, Unit]
    asked: bool = False

    def of(self, name: str) -> Unit:
        """One; where it is not known, it is not there."""
        return self.units.get(name, NOT_THERE)


def find(system: System) -> Units:
    """Ask systemd; in a tree, and where it does not answer, look at what is enabled."""
    done = system.runner.run(COMMAND)
    if done.code == 0 and b"ActiveState=" in done.output:
        return Units(_parse(done.output.decode("utf-8", "replace")), asked=True)
    wanted = {
        name
        for pattern in ("/etc/systemd/system/*.wants", "/run/systemd/system/*.wants")
        for directory in system.tree.glob(pattern)
        for name in system.tree.names(directory)
    }
    found: Dict[str, Unit] = {}
    for name in ALL:
        masked = any(is_masked(system.tree, f"{directory}/{name}") for directory in UNIT_DIRECTORIES)
        found[name] = Unit(enabled=name in wanted and not masked, masked=masked)
    return Units(found)


def _parse(text: str) -> Dict[str, Unit]:
    """Blocks of KEY=VALUE, one for each unit, with an empty line between them."""
    found: Dict[str, Unit] = {}
    for block in text.split("\n\n"):
        said = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
        found[said.get("Id", "")] = Unit(
            active=said.get("ActiveState") in ("active", "reloading"),
            enabled=said.get("UnitFileState") in ENABLED or said.get("ActiveState") == "activating",
            masked=said.get("LoadState") == "masked",
        )
    return found
