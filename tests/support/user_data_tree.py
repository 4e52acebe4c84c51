"""A Debian root file system for user-data, and runs in it: csagent's, and real cloud-init's.

A run takes place in an overlay of the tree, in namespaces of its own (mounts, processes, names, network):
what it writes is the overlay's upper directory, and this machine is not touched. The tree has cloud-init in
it, so that both engines run in the same one; csagent is this checkout, mounted at /opt/csagent.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from support.build_cache import cached, key_of
from support.debian_image import REPOSITORY, bootstrapped
from support.samples import PUBLIC_KEY

INSTANCE = "7c0e5a3e-0000-4000-8000-000000000001"
METADATA = f"instance-id: {INSTANCE}\nlocal-hostname: vm01\n"
SETTINGS = "user: debian\ncreate_user: true\n"
TOOLS = ("mmdebstrap", "unshare", "dpkg-deb", "mount")
DEADLINE = 300.0

PACKAGES = (
    *("cloud-init", "openssh-server", "sudo", "locales", "tzdata", "ca-certificates", "passwd", "procps"),
    *("iproute2", "e2fsprogs", "fdisk", "gdisk", "cloud-guest-utils", "xfsprogs", "keyboard-configuration"),
    *("python3-yaml", "python3-jinja2", "python3-requests", "python3-netifaces", "python3-pyudev"),
    *("python3-pycdlib", "libseccomp2", "systemd-sysv"),
)
DEBS = (("hello", "2.10-3"), ("tree", "2.1.0-1"), ("csdemo", "1.0-1"), ("csdemo", "2.0-1"))

# A repository of our own below $1, and no other: three programs that do nothing, one of them in two versions.
LOCAL_REPOSITORY = r"""
set -e
root=$1
mkdir -p "$root/srv/repo" "$root/var/tmp/build"
for pair in hello=2.10-3 tree=2.1.0-1 csdemo=1.0-1 csdemo=2.0-1; do
    name=${pair%=*} version=${pair#*=} build=$root/var/tmp/build/$pair
    mkdir -p "$build/DEBIAN" "$build/usr/bin"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' \
        "$name" "$version" >"$build/DEBIAN/control"
    printf '#!/bin/sh\necho %s\n' "$name" >"$build/usr/bin/$name"
    chmod 755 "$build/usr/bin/$name"
    dpkg-deb --root-owner-group -b "$build" "$root/srv/repo/${name}_${version}_all.deb" >/dev/null
done
rm -rf "$root/var/tmp/build"
cd "$root/srv/repo"
for deb in *.deb; do
    dpkg-deb -f "$deb"
    echo "Filename: ./$deb"
    echo "Size: $(stat -c %s "$deb")"
    echo "SHA256: $(sha256sum "$deb" | cut -d' ' -f1)"
    echo
done >Packages
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
find "$root/var/lib/apt/lists" -name '*Packages*' -delete
echo 'deb [trusted=yes] file:/srv/repo ./' >"$root/etc/apt/sources.list"
"""
CUSTOMIZE = (
    LOCAL_REPOSITORY
    + r"""rm -f "$root/etc/hostname"
echo localhost >"$root/etc/hostname"
chmod 644 "$root/etc/hostname" "$root/etc/apt/sources.list"
mkdir -p "$root/opt/csagent" "$root/etc/csagent"
"""
)


def tree(suite: str = "bookworm") -> Path:
    """The tree, from the cache or built now; it is only read."""

    def make(new: Path) -> Path:
        return bootstrapped(new, suite, PACKAGES, f"--customize-hook={CUSTOMIZE}")

    return cached(f"user-data-{suite}", key_of([suite, *PACKAGES, CUSTOMIZE]), make)


# $1 the tree, $2 the scratch directory, $3 the checkout; what stands in $2/in is /root/in inside.
ENTER = r"""
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=0755 tmpfs dev
mkdir dev/pts dev/shm
chmod 1777 dev/shm
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 0666 "dev/${device%:*}" c 1 "${device#*:}"
done
: >dev/console
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=0755 tmpfs run
mkdir -p run/sshd run/in opt/csagent
mount --bind "$3" opt/csagent
mount -o remount,bind,ro opt/csagent
mount --bind "$2/in" run/in
ip link set lo up
hostname localhost
set +e
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /bin/sh /run/in/run.sh </dev/null
code=$?
cp -r run "$2/run" 2>/dev/null
cp dev/console "$2/dev-console"
exit $code
"""

CSAGENT = r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
cd /
csagent() {
    python3 -I -B -c 'import sys
sys.path.insert(0, "/opt/csagent")
from csagent.cli.main import entry
entry()' "$@"
}
"""

CLOUD_INIT = r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
cd /
mkdir -p /var/lib/cloud/seed/nocloud
chmod go-rwx /var/lib/cloud/seed
# The images' own default cannot be made without their locales.
echo 'locale: false' >/etc/cloud/cloud.cfg.d/99_tests.cfg
boot() {
    cp "/run/in/$1" /var/lib/cloud/seed/nocloud/user-data
    cp /run/in/metadata.yaml /var/lib/cloud/seed/nocloud/meta-data
    rm -rf /run/cloud-init
    for stage in "init --local" init "modules --mode=config" "modules --mode=final"; do
        cloud-init $stage </dev/null
        echo "$?" >>/run/stages
    done
}
"""


# A disk of 96 MiB, /dev/vdz, for what runs next: a loop device that goes with the processes that hold it.
DISK = r"""
mknod /dev/loop-control c 10 237
for number in $(seq 0 63); do mknod "/dev/loop$number" b 7 "$number"; done
rm -f /run/in/disk
truncate --size=96M /run/in/disk
LOOP=$(losetup --find --show --partscan /run/in/disk)
exec 9<"$LOOP"
losetup --detach "$LOOP"
# The partitions are called /dev/loop01 too: cloud-init knows no other names.
find /dev -name 'loop[0-9]*' ! -path "$LOOP" -delete
ln -s "$LOOP" /dev/vdz
# What udev would do, when it is waited for.
cat >/usr/local/sbin/udevadm <<'END'
#!/bin/sh
loop=$(readlink /dev/vdz)
# A kernel without partition tables is told of the partitions.
partx --update "$loop" >/dev/null 2>&1
rm -f "$loop"?* /dev/vdz[0-9]*
for path in /sys/class/block/"${loop##*/}"/"${loop##*/}"p*; do
    [ -e "$path/dev" ] || continue
    numbers=$(cat "$path/dev")
    mknod "/dev/${path##*/}" b "${numbers%:*}" "${numbers#*:}"
    ln -s "/dev/${path##*/}" "/dev/vdz${path##*p}"
    ln -s "/dev/${path##*/}" "$loop${path##*p}"
done
END
# cloud-init makes partitions on disks only, and asks lsblk for what udev knows of file systems.
cat >/usr/local/sbin/lsblk <<'END'
#!/bin/sh
/usr/bin/lsblk "$@" | sed 's/ TYPE="loop"/ TYPE="disk"/' | while read -r line; do
    name=${line#NAME=\"} name=${name%%\"*}
    type=$(blkid --probe --output value --match-tag TYPE "/dev/${name#/dev/}")
    label=$(blkid --probe --output value --match-tag LABEL "/dev/${name#/dev/}")
    echo "$line" | sed "s/FSTYPE=\"[^\"]*\"/FSTYPE=\"$type\"/; s/LABEL=\"[^\"]*\"/LABEL=\"$label\"/"
done
END
chmod 755 /usr/local/sbin/udevadm /usr/local/sbin/lsblk
"""

# gpg, as far as the two want it, and a key server that has one key.
GPG = (
    f"\ncat >/usr/local/share/key.asc <<'END'\n{PUBLIC_KEY}END\n"
    r"""cat >/usr/local/sbin/gpg <<'END'
#!/bin/sh
plain() { sed '1,/^$/d; /^=/d; /^-----/d' | base64 --decode; }
case " $* " in
*" --dearmor "*) plain ;;
*" --recv-keys "*) : >/run/received ;;
*" --export "*)
    [ -e /run/received ] || exit 0
    case " $* " in *" --armour "*) exec cat /usr/local/share/key.asc ;; esac
    while [ "$1" != --output ]; do shift; done
    plain </usr/local/share/key.asc >"$2"
    ;;
esac
END
chmod 755 /usr/local/sbin/gpg
"""
)

# What has become of it, in words that do not differ from run to run.
DISK_SEEN = r"""
if [ -n "$LOOP" ]; then
    udevadm settle
    {
        findmnt --noheadings --raw --output TARGET,FSTYPE,OPTIONS | grep ^/mnt
        sfdisk --dump "$LOOP" 2>/dev/null | sed -n "s:$LOOP:disk:g; s/, uuid=[^,]*//; /^label: /p; /^diskp/p"
        for device in "$LOOP" "$LOOP"p*; do
            blkid --probe --output export "$device" | grep -E '^(TYPE|LABEL|PTTYPE)='
        done
    } >/run/disk
    umount --all --types ext2,ext3,ext4,xfs
fi
"""


class Scratch:
    """One overlay, in which scripts run one after another; what they leave stays until `close`."""

    def __init__(self, base: Path, directory: Optional[Path] = None) -> None:
        self.base = base
        self._own = directory is None
        self.directory = (
            Path(tempfile.mkdtemp(prefix="csagent-user-data-")) if directory is None else directory
        )
        for name in ("upper", "work", "root", "in"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)

    def run(
        self, script: str, files: Mapping[str, bytes], timeout: float = DEADLINE
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a script inside, with these files in /run/in."""
        for name, content in {**files, "run.sh": script.encode()}.items():
            (self.directory / "in" / name).write_bytes(content)
        for name in ("run", "work"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        (self.directory / "work").mkdir()
        words: List[str] = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--uts",
            "--net",
            "--ipc",
        ]
        words += ["sh", "-c", ENTER, "enter", str(self.base), str(self.directory), str(REPOSITORY)]
        return subprocess.run(words, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def csagent(
        self,
        document: bytes,
        *words: str,
        count: int = 1,
        metadata: str = METADATA,
        settings: str = SETTINGS,
        before: str = "",
    ) -> "subprocess.CompletedProcess[bytes]":
        """`csagent user-data run` with a document, so many times; the last one's exit code."""
        told = " ".join(words)
        lines = [
            CSAGENT,
            before,
            "mkdir -p /etc/csagent",
            "cp /run/in/csagent.yaml /etc/csagent/csagent.yaml",
        ]
        command = "csagent user-data run --document /run/in/user-data --metadata /run/in/metadata.yaml"
        lines += [f"{command} {told} --json >/run/status.json 2>/run/stderr; code=$?"] * count
        lines += [DISK_SEEN, "hostname >/run/hostname.final", "cat /run/stderr >&2", "exit $code"]
        files = {"user-data": document, "metadata.yaml": metadata.encode(), "csagent.yaml": settings.encode()}
        return self.run("\n".join(lines) + "\n", files)

    def cloud_init(
        self, documents: Sequence[bytes], metadata: str = METADATA, before: str = ""
    ) -> "subprocess.CompletedProcess[bytes]":
        """A boot of real cloud-init's four stages with each document, after `before`."""
        names = [f"user-data-{number}" for number in range(len(documents))]
        lines = [CLOUD_INIT, before, *(f"boot {name}" for name in names), DISK_SEEN]
        lines += ["hostname >/run/hostname.final"]
        files: Dict[str, bytes] = dict(zip(names, documents))
        return self.run("\n".join(lines) + "\n", {**files, "metadata.yaml": metadata.encode()})

    # --- what came of it ---

    def text(self, path: str) -> str:
        """The text of a file as it is inside; "" where there is none."""
        found = self.path(path)
        return "" if found is None else found.read_text(errors="replace")

    def path(self, path: str) -> Optional[Path]:
        """A file as it is inside: what was written, or what the tree has; None where there is none."""
        import stat

        upper = self.directory / "upper" / path.lstrip("/")
        parts = Path(path.lstrip("/")).parts
        for depth in range(1, len(parts) + 1):
            above = self.directory / "upper" / Path(*parts[:depth])
            if above.is_symlink() or not above.exists():
                break
            if stat.S_ISCHR(above.lstat().st_mode):
                return None  # a whiteout
        for found in (upper, self.base / path.lstrip("/")):
            if found.is_symlink() or found.exists():
                return found
        return None

    def told(self, name: str) -> str:
        """The text of a file that the run has left in /run."""
        found = self.directory / "run" / name
        return found.read_text(errors="replace") if found.exists() else ""

    def console(self) -> str:
        """What stood on the console."""
        found = self.directory / "dev-console"
        return found.read_text(errors="replace") if found.exists() else ""

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.directory, ignore_errors=True)
