"""`csagent seal` in a real Debian, from inside as on a machine and from outside as on a mounted image."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Set

import pytest
from support.debian_image import Installed
from support.network_segment import Guest
from support.samples import make_key

from csagent.apply.authorized_keys import merge

UNIT = "csagent-host-keys.service"
DEADLINE = 600

pytestmark = [pytest.mark.root, pytest.mark.netns]

# What a day of building leaves behind; %s is where. No program of the guest's is needed for it.
DAY = r"""
set -e
cd %s
mkdir -p var/log/journal/0123456789abcdef0123456789abcdef
mkdir -p var/lib/csagent/instances var/lib/dhcp root/.ssh tmp/b
echo 'lease { interface eth0; fixed-address 10.1.1.5; }' > var/lib/dhcp/dhclient.eth0.leases
echo 'ls EXAMPLE' > root/.bash_history
echo '{}' > var/lib/csagent/instances/i-2-3-VM.json
echo x > var/log/journal/0123456789abcdef0123456789abcdef/system.journal
echo x > var/log/syslog.1.gz
echo x > tmp/b/file
echo x > var/log/wtmp
echo x > var/lib/systemd/random-seed
echo 0123456789abcdef0123456789abcdef > etc/machine-id
echo web01 > etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\tweb01\t# csagent\n' > etc/hosts
sed -i 's/^root:[^:]*:/root:$6$EXAMPLE$marker:/' etc/shadow
"""


def leaves(upper: Path) -> Dict[str, Any]:
    """What an overlay's upper directory holds but directories; a removed file is a device 0, 0 there."""
    found: Dict[str, Any] = {}
    for directory, names, files in os.walk(upper):
        for name in [*names, *files]:
            path = Path(directory, name)
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                found[f"/{path.relative_to(upper)}"] = (status.st_mode, status.st_rdev, content)
    return found


def changed(before: Dict[str, Any], after: Dict[str, Any]) -> Set[str]:
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


def listed(document: Any) -> Set[str]:
    return {one["path"] for thing in document["things"] for one in thing["leftovers"]}


@pytest.fixture
def guest(image: Installed, tmp_path: Path) -> Iterator[Guest]:
    """A Debian tree with the package installed, after a day's work."""
    machine = Guest(image, tmp_path / "guest")
    try:
        machine.do("sh", "-c", DAY % "/")
        yield machine
    finally:
        machine.close()


def test_sealed_from_inside_and_back_on_the_first_boot(guest: Guest, tmp_path: Path) -> None:
    """Exactly what the preview lists changes; the unit's command makes other host keys, and sshd starts.

    A password that CloudStack offers then opens the locked account.
    """
    upper = tmp_path / "guest/upper"
    old = guest.do("ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key.pub")
    assert guest.do("systemctl", "is-enabled", UNIT).strip() == "enabled"
    preview = guest.csagent("seal")
    guest.csagent("seal", "--check", code=1)
    before = leaves(upper)
    done = guest.csagent("seal", "--yes")
    touched = changed(before, leaves(upper))
    assert listed(done) == listed(preview)
    assert touched <= listed(done) and {"/etc/ssh/ssh_host_rsa_key", "/etc/shadow"} <= touched
    assert guest.csagent("seal", "--check")["clean"] is True
    after = leaves(upper)
    guest.csagent("seal", "--yes")
    assert leaves(upper) == after
    assert guest.read("/etc/machine-id") == "" and guest.shadow() == "*"

    guest.do("mkdir", "-p", "/run/sshd")
    assert "no hostkeys available" in guest.run("sshd", "-t").stderr
    (command,) = re.findall(r"^ExecStart=(.*)$", guest.read(f"/lib/systemd/system/{UNIT}"), re.MULTILINE)
    guest.do(*shlex.split(command))
    guest.do("sshd", "-t")
    assert guest.do("ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key.pub") != old
    guest.do("sh", "-c", "echo root:EXAMPLE-marker-1 | chpasswd")
    assert guest.shadow().startswith("$")


# All that csagent keeps of a document: the steps, the scripts of each frequency, metadata, what scripts said.
DOCUMENT = """\
#cloud-config
bootcmd: [echo EXAMPLE-boot]
write_files:
  - {path: /srv/of-the-document, content: stays}
runcmd: [echo EXAMPLE-script]
final_message: EXAMPLE-message
"""


def test_nothing_of_user_data_is_left(guest: Guest) -> None:
    """Record, scripts, log, rotated logs: gone or empty. What the document has written stays."""
    guest.write("/root/document", DOCUMENT)
    assert guest.csagent("user-data", "run", "--document", "/root/document")["state"] == "done"
    guest.write("/var/log/csagent-user-data.log.1.gz", "EXAMPLE")
    held = guest.do("grep", "-rl", "EXAMPLE", "/var/lib/csagent", "/var/log").split()
    assert "/var/log/csagent-user-data.log" in held and len(held) > 3
    guest.do("rm", "/root/document")
    guest.csagent("seal", "--yes")
    assert guest.run("grep", "-rl", "-e", "EXAMPLE-", "/var").stdout == ""
    assert "user-data" not in guest.do("find", "/var/lib/csagent")
    assert guest.do("find", "/var/log", "-name", "csagent-user-data*", "-size", "+0") == ""
    assert guest.read("/srv/of-the-document") == "stays"
    assert guest.csagent("seal", "--check")["clean"] is True


def test_systemd_finds_nothing_wrong_with_the_host_keys_unit(guest: Guest) -> None:
    """`systemd-analyze verify` in the guest of both units and sshd's, as installed: no word, so no cycle."""
    done = guest.run("systemd-analyze", "verify", "--man=no", UNIT, "csagent.service", "ssh.service")
    assert (done.returncode, done.stderr) == (0, "")


OFFLINE = r"""
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount --bind "$2/outside/archives" "$2/root/var/cache/apt/archives"
mkdir -p "$2/root/var/log/sub" "$2/root/root/.ssh"
touch "$2/root/var/log/sub/bound.log"
mount --bind "$2/outside/log" "$2/root/var/log/sub/bound.log"
mount --bind "$2/outside/ssh" "$2/root/root/.ssh"
shift 2
exec "$@"
"""


def test_sealed_from_outside_without_reaching_outside(image: Installed, disk_path: Path) -> None:
    """A mounted image becomes clean; what of the builder's is bound into it is left alone, one file also."""
    for name in ("upper", "work", "root", "outside/archives", "outside/ssh"):
        (disk_path / name).mkdir(parents=True)
    outside = {
        "archives/precious.deb": "x",
        "log": "x",
        "ssh/known_hosts": "x",
        "ssh/authorized_keys": merge("", [make_key(1)]),
    }
    for name, text in outside.items():
        (disk_path / "outside" / name).write_text(text)
    root = disk_path / "root"

    def run(*words: str, code: int) -> str:
        command = ["unshare", "--mount", "sh", "-c", OFFLINE, "sh", str(image.tree), str(disk_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    csagent = (sys.executable, "-I", "-m", "csagent", "--root", str(root), "seal", "--json")
    run("sh", "-c", DAY % shlex.quote(str(root)), code=0)
    before = leaves(disk_path / "upper")
    run(*csagent, "--check", "--all-keys", code=1)
    assert leaves(disk_path / "upper") == before
    done = json.loads(run(*csagent, "--yes", "--all-keys", code=0))
    touched = changed(before, leaves(disk_path / "upper"))
    assert touched <= listed(done) and "/var/lib/dhcp/dhclient.eth0.leases" in touched
    checked = json.loads(run(*csagent, "--check", "--all-keys", code=0))
    assert checked["clean"] is True
    assert [one["path"] for one in checked["warnings"] if "bound here" in one["text"]] == [
        "/root/.ssh",
        "/var/cache/apt/archives",
        "/var/log/sub/bound.log",
    ]
    assert {name: (disk_path / "outside" / name).read_text() for name in outside} == outside
