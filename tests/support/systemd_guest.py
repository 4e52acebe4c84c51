"""The guest of `segment`, with its own systemd as process 1: units start, stop and fail as on a machine."""

from __future__ import annotations

import time

from support.network_segment import Guest

BOOT_SECONDS = 300.0

# As GUEST in `network_segment`, and cgroups and a boot id of its own; the units that serve other tests would
# turn it off again.
GUEST = r"""
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
rm -f etc/systemd/system/*/csagent-test-*
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
cp proc/sys/kernel/random/uuid run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=0755 tmpfs dev
for node in 'null c 1 3' 'zero c 1 5' 'full c 1 7' 'random c 1 8' 'urandom c 1 9' 'tty c 5 0'; do
    mknod -m 0666 dev/$node
done
ln -s /proc/self/fd dev/fd
ip link set lo up
hostname template
mkdir run/old
pivot_root . run/old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lxc sh -c \
    'umount -l /run/old && rmdir /run/old && echo up && exec /sbin/init >/dev/null 2>&1'
"""


class Booted(Guest):
    """A Debian root file system in namespaces of its own, booting."""

    script = GUEST
    flags = (*Guest.flags, "--cgroup")

    def ended(self) -> None:
        """Wait until it has ended by itself: it was told to reboot or to power off."""
        self._holder.wait(BOOT_SECONDS)

    def close(self) -> None:
        """End it and everything in it, as a power cut does; an init does not go by itself."""
        self._holder.kill()
        super().close()

    def wait(self, *words: str) -> None:
        """Wait until a command inside ends well."""
        end = time.monotonic() + BOOT_SECONDS
        while True:
            done = self.run(*words)
            if done.returncode == 0:
                return
            assert time.monotonic() < end, f"{' '.join(words)}: {done.stdout}{done.stderr}"
            time.sleep(0.2)
