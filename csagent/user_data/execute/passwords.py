"""Passwords of accounts that exist, and whether sshd takes any. They go to chpasswd on its standard input."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional

from csagent.model import Secret
from csagent.user_data.execute import account_tools, sshd

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

LENGTH = 20
# Without what is taken for something else when it is read off a console.
ALPHABET = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789"


class SetPassword(NamedTuple):
    """Set a password; None makes a random one, which the console alone shows (field/user-data#U62)."""

    name: str
    value: Optional[Secret]
    hashed: bool
    expire: bool

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not account_tools.has_user(machine, self.name):
            machine.fail(f"there is no account {self.name[:60]}")
        if self.name == machine.keeps_password:
            machine.warn(f"{self.name[:60]} has CloudStack's own password, which stays")
            return
        value = self.value
        if value is None:
            import secrets

            value = Secret("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)).encode())
        account_tools.set_password(machine, self.name, value, hashed=self.hashed and self.value is not None)
        if self.value is None:
            machine.console(f"csagent: the random password of {self.name} is {value.reveal().decode()}\n")
        if self.expire:
            account_tools.expire_password(machine, self.name)


class PasswordLogins(NamedTuple):
    """Whether sshd takes passwords, in a file of its own where sshd_config includes such."""

    allowed: bool

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        sshd.set_option(machine, "PasswordAuthentication", "yes" if self.allowed else "no")
