"""A template sealed on a running machine, and its first instance: one disk, two machines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple

import pytest
from support.debian_image import Installed, run
from support.vm_cloud import describe, hash_verifies
from support.vm_machine import Control, Machine

from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.lab.vm.machine import killed_at_end
from csagent.lab.vm.namespace import Namespace

pytestmark = [pytest.mark.vm, pytest.mark.root]

STATUS = "/run/csagent/status.json"
SETTLED = 600.0
LIFE = 900.0  # seconds from its start until it is off; emulated, on a busy machine
HISTORY = "marker-history-EXAMPLE"
FINGERPRINTS = "for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -l -f $key; done"
# The builder's own login shell, which writes its history when its terminal goes away.
SHELL = f"""
import os, pty, time
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(HOME="/root", HISTFILE="/root/.bash_history")
    os.execv("/bin/bash", ["bash", "-i"])
os.write(terminal, b"set -o history; echo {HISTORY}\\n")
while True:
    os.read(terminal, 4096)
"""
# A unit's own moments, in microseconds since the kernel started.
MOMENT = "systemctl show --value -p {0}TimestampMonotonic {1}"


class Story(NamedTuple):
    """What was seen on the template, on its disk, and on the instance."""

    before: Dict[str, str]
    off: bool
    disk: Any  # seal --check --json, from outside
    state: str  # of the file system
    history: bool
    after: Dict[str, str]
    shadow: str
    cloud: Cloud


def _look(shell: Control) -> Dict[str, str]:
    return {
        "machine-id": shell.run("cat /etc/machine-id").strip(),
        "host-keys": shell.run(FINGERPRINTS),
        "hostname": shell.run("hostname").strip(),
        "failed": shell.run("systemctl --failed --plain --no-legend"),
        "ssh": shell.run("systemctl is-active ssh.service", check=False).strip(),
        "made": shell.run(MOMENT.format("ExecMainExit", "csagent-host-keys.service")).strip(),
        "condition": shell.run("systemctl show --value -p ConditionResult csagent-host-keys.service").strip(),
        "sshd": shell.run(MOMENT.format("ExecMainStart", "ssh.service")).strip(),
        "instances": shell.run("ls /var/lib/csagent/instances"),
    }


def _boot(installed: Installed, directory: Path, cloud: Cloud, namespace: Namespace) -> Machine:
    directory.mkdir()
    machine = Machine(installed, directory, namespace, uuid=cloud.instance_id, control=True, steadily=False)
    machine.start()
    return machine


@contextlib.contextmanager
def _served(namespace: Namespace, cloud: Cloud) -> Iterator[None]:
    """A virtual router that knows the machine."""
    router = LabRouter(cloud, address="127.0.0.1", port=80, password_port=8080)
    namespace.call(router.start)
    try:
        yield
    finally:
        router.stop()


def _settle(shell: Control) -> None:
    assert shell.wait(STATUS, '"instance_id": "', timeout=SETTLED), "no first pass"
    shell.run("systemctl is-system-running --wait", SETTLED, check=False)  # host keys take longer than a pass
    waiting = f"csagent --quiet status --user-data --wait {SETTLED:g}"  # which takes longer than the boot
    shell.run(waiting, 2 * SETTLED, check=False)


@pytest.fixture(scope="module")
def story(image: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Two boots: the template's, which seals and switches itself off, and the instance's."""
    directory = tmp_path_factory.mktemp("seal")
    clouds = describe("builder", 1), describe("instance-1", 2)
    with Namespace() as namespace:
        with _served(namespace, clouds[0]):
            machine = _boot(image, directory / "template", clouds[0], namespace)
            with killed_at_end(machine), machine.shell() as shell:
                _settle(shell)
                before = _look(shell)
                shell.run("mkdir -p /var/log/journal && journalctl --flush")
                shell.run(f"cat > /run/shell.py <<'END'\n{SHELL}END")
                shell.run("systemd-run --quiet python3 /run/shell.py && sleep 2")
                shell.run("systemd-run --quiet csagent seal --yes --poweroff")
                off = machine.wait_off(LIFE)
        raw = directory / "template.raw"
        run(["qemu-img", "convert", "-O", "raw", machine.disk, raw], 120)
        state = run(["dumpe2fs", "-h", raw], 30).stdout
        mounted = (
            'mount -o loop,ro "$1" /mnt && { test ! -e /mnt/root/.bash_history || echo history >&2; } && '
            'shift && exec "$@"'
        )
        words = [sys.executable, "-I", "-m", "csagent", "--root", "/mnt", "seal", "--check", "--json"]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mounted, "sh", str(raw), *words],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.stdout, done.stderr
        with _served(namespace, clouds[1]):
            instance = _boot(image._replace(disk=raw), directory / "instance", clouds[1], namespace)
            with killed_at_end(instance), instance.shell() as shell:
                _settle(shell)
                after = _look(shell)
                shadow = shell.run("getent shadow root").split(":")[1]
        yield Story(
            before, off, json.loads(done.stdout), state, "history" in done.stderr, after, shadow, clouds[1]
        )


def test_machine_switches_itself_off_and_its_disk_is_clean(story: Story) -> None:
    """No unit's stop job has written a lease, a seed or a record again, nor the shell its history."""
    assert story.off
    left = [one["path"] for thing in story.disk["things"] for one in thing["leftovers"]]
    assert story.disk["clean"] is True, left
    assert not story.history


def test_file_system_was_unmounted(story: Story) -> None:
    """Powered off without stop jobs, not cut off: the file system needs no recovery."""
    lines = dict(line.split(":", 1) for line in story.state.splitlines() if ":" in line)
    assert lines["Filesystem state"].strip() == "clean"
    assert "needs_recovery" not in lines["Filesystem features"]


def test_first_boot_makes_other_host_keys_before_sshd(story: Story) -> None:
    """The unit has run on the instance, not on the template, and had ended when sshd was started."""
    assert story.before["condition"] == "no" and story.after["condition"] == "yes"
    kinds = [line.split()[-1] for line in story.after["host-keys"].splitlines()]
    assert sorted(kinds) == ["(ECDSA)", "(ED25519)", "(RSA)"]
    assert not set(story.after["host-keys"].splitlines()) & set(story.before["host-keys"].splitlines())
    assert story.after["ssh"] == "active"
    assert 0 < int(story.after["made"]) <= int(story.after["sshd"])


def test_instance_is_itself(story: Story) -> None:
    """Another machine id, CloudStack's hostname and password for it, no memory of the template's instance."""
    assert len(story.after["machine-id"]) == 32 and story.after["machine-id"] != story.before["machine-id"]
    assert (story.before["hostname"], story.after["hostname"]) == ("builder", "instance-1")
    assert hash_verifies(story.cloud.password or "", story.shadow)
    assert story.after["instances"].split() == [
        f"{story.cloud.instance_id}.json",
        f"{story.cloud.instance_id}.user-data",
    ]
    assert story.after["failed"] == ""
