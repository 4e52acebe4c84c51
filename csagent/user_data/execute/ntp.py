"""The clock's servers, for the client that is there, or chrony where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, NamedTuple, Tuple

from csagent.user_data.execute.configure import reload_services
from csagent.user_data.execute.packages import InstallPackages, RefreshIndex

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

CLIENTS = ("chrony", "systemd-timesyncd")
PROGRAMS: Dict[str, Tuple[str, ...]] = {
    "chrony": ("/usr/sbin/chronyd",),
    "systemd-timesyncd": ("/usr/lib/systemd/systemd-timesyncd", "/lib/systemd/systemd-timesyncd"),
}
CHRONY = {"redhat": ("/etc/chrony.conf", "/etc/chrony.keys", "chronyd")}
DEBIANS_CHRONY = ("/etc/chrony/chrony.conf", "/etc/chrony/chrony.keys", "chrony")
TIMESYNCD = "/etc/systemd/timesyncd.conf.d/cloud-init.conf"


class ConfigureNtp(NamedTuple):
    """Write the client's configuration; install it where it is missing, chrony where there is none."""

    client: str
    servers: Tuple[str, ...]
    pools: Tuple[str, ...]
    peers: Tuple[str, ...]
    allow: Tuple[str, ...]
    family: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        there = [name for name in CLIENTS if any(machine.system.tree.exists(path) for path in PROGRAMS[name])]
        client = (there or ["chrony"])[0] if self.client == "auto" else self.client
        if client == "chrony":
            path, keys, service = CHRONY.get(self.family, DEBIANS_CHRONY)
            machine.write(path, self._chrony(keys).encode(), 0o644)
        else:
            service = client
            hosts = " ".join((*self.servers, *self.pools))
            machine.write(TIMESYNCD, f"[Time]\nNTP={hosts}\n".encode(), 0o644)
        if client not in there:
            package = client
            RefreshIndex(self.family).carry_out(machine)
            InstallPackages(self.family, (package,)).carry_out(machine)
        reload_services(machine, (service,))

    def _chrony(self, keys: str) -> str:
        lines: List[str] = [f"pool {host} iburst" for host in self.pools]
        lines += [f"server {host} iburst" for host in self.servers]
        lines += [f"peer {host}" for host in self.peers]
        lines += [f"allow {network}" for network in self.allow]
        lines += [f"keyfile {keys}", "driftfile /var/lib/chrony/chrony.drift", "logdir /var/log/chrony"]
        lines += ["maxupdateskew 100.0", "rtcsync", "makestep 1 3"]
        return "".join(line + "\n" for line in lines)
