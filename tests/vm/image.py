"""A Debian 12 root file system with csagent's package in it, as a directory and as a disk.

Two layers. The base (mmdebstrap: kernel, systemd, sshd, DHCP clients, our dependencies) is cached and
keyed by the recipe. The package and the few files of the tests go on a copy of it; that takes seconds
and is keyed by what goes in. tests/vm boots it, tests/system changes its root to an overlay of it.

Where: ${XDG_CACHE_HOME:-~/.cache}/csagent-tests. The mirror: $CSAGENT_TEST_MIRROR, else deb.debian.org.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
GUEST_FILES = Path(__file__).resolve().parent / "guest"
MIRROR = os.environ.get("CSAGENT_TEST_MIRROR", "http://deb.debian.org/debian")
SECURITY = os.environ.get("CSAGENT_TEST_SECURITY_MIRROR", "http://deb.debian.org/debian-security")
SUITE = "bookworm"
DISK_SIZE = "1G"
IN_USE = 3600.0  # seconds since it was last asked for

TOOLS = ("mmdebstrap", "dpkg-buildpackage", "dh", "dh_python3", "mke2fs", "unshare")

PACKAGES = (
    "linux-image-cloud-amd64",  # has what CloudStack's guests have: virtio, IDE (ata_piix), iso9660
    *("systemd-sysv", "udev", "dbus", "openssh-server", "iproute2", "passwd", "adduser"),
    # DHCP clients for tests/system; in the VM it is systemd-networkd, which comes with systemd.
    *("isc-dhcp-client", "dhcpcd-base", "udhcpc"),
    *(
        "python3",
        "python3-netifaces",
        "python3-pycdlib",
        "python3-pyudev",
        "python3-requests",
        "python3-yaml",
    ),
)

# The initramfs needs to find one disk; without MODULES=list it takes longer to build, load and unpack.
SETUP = r"""
set -e
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list > "$1/etc/initramfs-tools/conf.d/csagent-tests"
printf '%s\n' virtio_pci virtio_blk ext4 > "$1/usr/share/initramfs-tools/modules.d/csagent-tests"
"""

CUSTOMIZE = r"""
set -e
echo template > "$1/etc/hostname"
printf '127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n' > "$1/etc/hosts"
echo 0123456789abcdef0123456789abcdef > "$1/etc/machine-id"
chmod 644 "$1/etc/hostname" "$1/etc/hosts"
echo '/dev/vda / ext4 defaults 0 1' > "$1/etc/fstab"
chroot "$1" passwd --quiet --lock root
printf '%s\n' '[Match]' 'Type=ether' '[Network]' 'DHCP=ipv4' 'LinkLocalAddressing=no' 'IPv6AcceptRA=no' \
    > "$1/etc/systemd/network/80-dhcp.network"
systemctl --quiet --root="$1" enable systemd-networkd.service
systemctl --quiet --root="$1" disable systemd-networkd-wait-online.service
systemctl --quiet --root="$1" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service getty@tty1.service
"""


class Installed(NamedTuple):
    """The tree with the package in it, and what boots it."""

    tree: Path
    kernel: Path
    initrd: Path
    disk: Path  # raw ext4 without a partition table; boot overlays of it, never itself


def cache_directory() -> Path:
    """The cache; only root may look inside (the tree has set-uid programs in it)."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(home) / "csagent-tests"
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def build_package(directory: Path) -> Path:
    """Build the .deb from this checkout."""
    done = run([REPOSITORY / "packaging" / "build-deb", directory], 120)
    return Path(done.stdout.strip())


def installed(deb: Path) -> Installed:
    """Make the tree and the disk with this package, or take them from the cache."""
    cache = cache_directory()
    with _locked(cache / "lock"):
        base = _base(cache)
        layer = cache / f"layer-{_key([base.name, DISK_SIZE], [deb, *sorted(GUEST_FILES.iterdir())])}"
        if not layer.exists():
            _forget_old(cache)
            with _half_made(cache) as new:
                _install(base, deb, new)
                new.rename(layer)
        os.utime(layer)
    boot = layer / "tree" / "boot"
    (kernel,), (initrd,) = boot.glob("vmlinuz-*"), boot.glob("initrd.img-*")
    return Installed(layer / "tree", kernel, initrd, layer / "disk.raw")


def _base(cache: Path) -> Path:
    key = _key([SUITE, *PACKAGES, SETUP, CUSTOMIZE], [])
    base = cache / f"base-{key}"
    if base.exists():
        os.utime(base)
        return base
    with _half_made(cache) as new:
        command: List[str] = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=directory"]
        command += ["--aptopt=APT::Install-Recommends false", "--dpkgopt=force-unsafe-io"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        command += [f"--setup-hook={SETUP}", f"--customize-hook={CUSTOMIZE}"]
        command += [f"--include={','.join(PACKAGES)}", SUITE, str(new / "tree")]
        command += [f"deb {MIRROR} {SUITE} main", f"deb {SECURITY} {SUITE}-security main"]
        run(command, 900)
        (new / "tree").rename(base)
        os.utime(base)
    return base


def _install(base: Path, deb: Path, new: Path) -> None:
    tree = new / "tree"
    run(["cp", "-a", "--reflink=auto", base, tree], 120)
    shutil.copy(deb, tree / "csagent.deb")
    # In namespaces of its own, so that no daemon and no mount of the package's scripts stays behind.
    script = "mount -t proc proc /proc && dpkg --force-unsafe-io --install /csagent.deb"
    run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", tree, "sh", "-c", script], 120)
    (tree / "csagent.deb").unlink()
    for name, path, mode in (
        ("csagent-test-report", "usr/lib/csagent-test/report", 0o755),
        ("csagent-test-shadow", "usr/lib/csagent-test/shadow-changed", 0o755),
        ("csagent-test-report.service", "etc/systemd/system/csagent-test-report.service", 0o644),
        ("csagent-test-control", "usr/lib/csagent-test/control", 0o755),
        ("csagent-test-control.service", "etc/systemd/system/csagent-test-control.service", 0o644),
    ):
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(GUEST_FILES / name, target)
        target.chmod(mode)
    with open(tree / "etc/pam.d/chpasswd", "a") as stream:
        stream.write("password optional pam_exec.so quiet /usr/lib/csagent-test/shadow-changed\n")
    units = ("csagent-test-report.service", "csagent-test-control.service")
    run(["systemctl", "--quiet", f"--root={tree}", "enable", *units], 30)
    disk = new / "disk.raw"
    run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", tree, disk, DISK_SIZE], 120)


def run(command: Sequence[object], timeout: float) -> "subprocess.CompletedProcess[str]":
    """Run a command; when it fails, the error holds what it printed."""
    words = [os.fspath(word) if isinstance(word, Path) else str(word) for word in command]
    environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        words, timeout=timeout, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{words[0]} failed ({done.returncode}):\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
        )
    return done


def _key(words: Sequence[str], files: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _half_made(cache: Path) -> Iterator[Path]:
    """A directory to build in; whatever is still in it at the end is removed."""
    path = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _forget_old(cache: Path) -> None:
    """Keep the newest few of each kind, and what another run may be using; half a gigabyte apiece."""
    for kind, kept in (("layer", 2), ("base", 1), ("new", 0)):
        paths = sorted(cache.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in paths[kept:]:
            if time.time() - path.stat().st_mtime > IN_USE:
                shutil.rmtree(path, ignore_errors=True)
