"""What there is to see in a guest, asked for with one script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict

# Asked as root, in one go: a command over ssh takes an emulated guest a second. The passwords come on
# standard input and go no further than the shell and a pipe: no argument, no file.
LOOK = r"""
secrets=$(cat)
section() { printf '\n==%s\n' "$1"; }
section system; (. /etc/os-release && printf '%s\n' "$PRETTY_NAME") 2>/dev/null
section kernel-name; uname -n
section file-name; cat /etc/hostname 2>/dev/null
section shadow; grep "^$account:" /etc/shadow
section written; stat -c %.3Z /etc/shadow 2>/dev/null || stat -c %Z /etc/shadow
section keys; eval cat "~$account/.ssh/authorized_keys" 2>/dev/null
section machine-id; cat /etc/machine-id 2>/dev/null
section host-keys; cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | cut -d' ' -f1,2
[ -z "$everything" ] && exit 0
section units; systemctl show -p Id -p ActiveState -p ActiveEnterTimestampMonotonic \
    basic.target ssh.service sshd.service csagent.service cloud-init.service 2>/dev/null
section order; systemctl show -p After --value ssh.service sshd.service 2>/dev/null
section status; command -v csagent >/dev/null && csagent status --json 2>/dev/null
section leaks
hidden() { printf '%s\n' "$secrets" | grep -qaF -f - "$@" 2>/dev/null; }
journalctl --no-pager -a -o cat 2>/dev/null | (exec 3<&0; printf '%s\n' "$secrets" |
    { grep -qaF -f - /dev/fd/3 && echo "the journal"; })
printf '%s\n' "$secrets" | grep -rlaF -f - --exclude-dir=journal \
    /var/log /run /tmp /var/tmp /var/lib/cloud 2>/dev/null
for line in /proc/[0-9]*/cmdline; do
    hidden "$line" && echo "the command line of a process"
done
exit 0
"""


def sections(text: str) -> Dict[str, str]:
    """What the script has printed, by section."""
    blocks = (block.partition("\n") for block in ("\n" + text).split("\n==")[1:])
    return {name.strip(): content for name, _, content in blocks}


@dataclass(frozen=True)
class Look:
    """What one look found, by section, and by how many seconds, give or take, the guest's clock is ahead."""

    sections: Dict[str, str] = field(repr=False)  # has the shadow entry
    ahead: float = 0.0
    unsure: float = 0.0

    def __getitem__(self, name: str) -> str:
        return self.sections.get(name, "").strip()

    @property
    def hash(self) -> str:
        """The password field of the account's shadow entry."""
        return self["shadow"].partition(":")[2].partition(":")[0]

    @property
    def units(self) -> Dict[str, Dict[str, str]]:
        """Properties of units, by their id."""
        blocks = (
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in self["units"].split("\n\n")
        )
        return {block["Id"]: block for block in blocks if "Id" in block}
