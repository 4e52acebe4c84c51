"""The machine's name and its own lines in /etc/hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, NamedTuple

from csagent.system.accounts import FILE_LIMIT
from csagent.system.files import lines_of

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

ADDRESSES = {"redhat": "127.0.0.1"}  # for the host's own name
DEBIANS_ADDRESS = "127.0.1.1"


class SetHostname(NamedTuple):
    """Make this the machine's name, now and at the next boot. /etc/hosts is another key's business."""

    name: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        from csagent.apply import hostname

        machine.write(hostname.HOSTNAME, self.name.encode() + b"\n", 0o644)
        hosts = machine.system.tree.read_text(hostname.HOSTS, FILE_LIMIT) or ""
        if _has_our_line(hosts):
            machine.change(hostname.HOSTS, self._in_our_line, 0o644)
        if machine.system.live:
            machine.tell_kernel(self.name)
        machine.named = self.name

    def _in_our_line(self, hosts: str) -> str:
        from csagent.apply import hostname

        return hostname.with_our_line(hosts, self.name, None) if _has_our_line(hosts) else hosts


def _has_our_line(hosts: str) -> bool:
    from csagent.apply import hostname

    return any(hostname.is_our_line(line) for line in lines_of(hosts))


class WriteHosts(NamedTuple):
    """Write /etc/hosts, all of it, or only the line with the machine's name."""

    short: str
    fqdn: str
    whole: bool
    family: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        from csagent.apply import hostname

        if self.whole:
            machine.write(hostname.HOSTS, self._all().encode("utf-8", "surrogateescape"), 0o644)
        else:
            machine.change(hostname.HOSTS, self._one, 0o644, keep=False)

    def _all(self) -> str:
        lines = ["# Written at each boot, as manage_etc_hosts in this instance's user-data asks for."]
        if self.family == "redhat":
            names = f"{self.fqdn} {self.short}"
            lines += [f"127.0.0.1 {names}", "127.0.0.1 localhost.localdomain localhost"]
            lines += ["127.0.0.1 localhost4.localdomain4 localhost4", "", f"::1 {names}"]
            lines += ["::1 localhost6.localdomain6 localhost6"]
        else:
            lines += [f"{DEBIANS_ADDRESS} {self.fqdn} {self.short}", "127.0.0.1 localhost", ""]
            lines += ["# The following lines are desirable for IPv6 capable hosts"]
            lines += [
                "::1 localhost ip6-localhost ip6-loopback",
                "ff02::1 ip6-allnodes",
                "ff02::2 ip6-allrouters",
            ]
        return "\n".join(lines) + "\n"

    def _one(self, text: str) -> str:
        """The text with a line of the host's own address that has both names; the others stay."""
        address = ADDRESSES.get(self.family, DEBIANS_ADDRESS)
        lines: List[str] = lines_of(text)
        for line in lines:
            words = line.split("#", 1)[0].split()
            if words[:2] == [address, self.fqdn] and self.short in words[2:]:
                return text if text.endswith("\n") else text + "\n"
        return "\n".join([*lines, f"{address} {self.fqdn} {self.short}"]) + "\n"
