"""What comes last: a message, a call home, a reboot or the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, NamedTuple, Tuple

from csagent.model import Secret

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

NAMES = ("uptime", "timestamp", "version", "datasource")
DATASOURCE = "DataSourceCloudStack"  # what cloud-init says for it
HOST_KEYS = "/etc/ssh/ssh_host_{}_key.pub"
SHUTDOWN = {"poweroff": "-P", "reboot": "-r", "halt": "-H"}
CONDITION_SECONDS = 600.0


def placeholder(name: str) -> str:
    """What stands in a planned message for what is known at its end only."""
    return f"\ue000{name.lower()}\ue001"  # private use: nothing that is typed


class FinalMessage(NamedTuple):
    """Say something, on the console and in the log."""

    text: str

    def carry_out(self, machine: "Machine") -> None:
        """Never fails."""
        import email.utils

        from csagent import __version__

        uptime = (machine.system.tree.read_text("/proc/uptime") or "0").split(" ", 1)[0].strip()
        now = email.utils.formatdate(machine.system.clock.now())
        values = {"uptime": uptime, "timestamp": now, "version": __version__, "datasource": DATASOURCE}
        text = self.text
        for name, value in values.items():
            text = text.replace(placeholder(name), value)
        machine.say(text.rstrip("\n") + "\n")


class PhoneHome(NamedTuple):
    """Post the instance's id, name and public host keys to a URL."""

    url: Secret
    posted: Tuple[str, ...]
    tries: int
    instance_id: str
    hostname: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed, after all its tries."""
        url = self.url.reveal().decode().replace("$INSTANCE_ID", self.instance_id)
        machine.post(url.replace("${INSTANCE_ID}", self.instance_id), self._values(machine), self.tries)

    def _values(self, machine: "Machine") -> Dict[str, str]:
        name = machine.named or self.hostname
        known = {"instance_id": self.instance_id, "hostname": name.split(".")[0], "fqdn": name}
        fields = {}
        for field in self.posted:
            if field.startswith("pub_key_"):
                path = HOST_KEYS.format(field[len("pub_key_") :])
                fields[field] = machine.system.tree.read_text(path) or "N/A"
            else:
                fields[field] = known.get(field) or "N/A"
        return fields


class PowerState(NamedTuple):
    """Power off, reboot or halt, when all else is done and if the condition's command ends with 0."""

    mode: str
    delay: str
    message: str
    timeout: float
    condition: Tuple[str, ...] = ()

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if self.condition:
            code = machine.exit_code(list(self.condition), CONDITION_SECONDS)
            if code is not None and code != 0:
                machine.say(f"csagent: {self.mode} is not done: its condition ended with {code}\n")
                return
        words = ["shutdown", SHUTDOWN[self.mode], self.delay]
        words += [self.message] if self.message else []
        machine.ending(words)
