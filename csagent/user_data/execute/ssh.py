"""Keys that may log in, and the keys by which this machine is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

from csagent.model import Secret
from csagent.user_data.execute import account_tools, sshd

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

PATH = "/etc/ssh/ssh_host_{}_key"


class AuthorizeKeys(NamedTuple):
    """Add lines to an account's authorized_keys, behind options where there are some."""

    name: str
    keys: Tuple[str, ...]
    options: str = ""

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        account_tools.authorize(machine, self.name, self.keys, self.options)


class HostKey(NamedTuple):
    """Write a host key of the document; a public one that is missing is made of the private one."""

    kind: str
    private: Optional[Secret]
    public: Optional[Secret]
    certificate: Optional[Secret]

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        path = PATH.format(self.kind)
        public = self.public
        if self.private is not None:
            machine.write(path, self.private.reveal(), 0o600)
            if public is None and machine.system.live:
                made = machine.command(["ssh-keygen", "-y", "-f", path], quiet=True)
                public = Secret(made.rstrip(b"\n") + b" root@localhost\n")
        if public is not None:
            machine.write(path + ".pub", public.reveal(), 0o600)
        if self.certificate is not None:
            machine.write(path + "-cert.pub", self.certificate.reveal(), 0o600)
            sshd.set_option(machine, "HostCertificate", path + "-cert.pub")
        else:
            sshd.restart(machine)
