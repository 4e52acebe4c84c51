"""Debian root file systems with csagent's package in them, as a directory and as a disk.

Two layers, both in `support.build_cache`. The base (mmdebstrap: kernel, systemd, sshd, our dependencies) is
keyed by the recipe. The package and the few files of the tests go on a copy of it; that takes seconds and is
keyed by what goes in. tests/vm boots it, tests/system changes its root to an overlay of it.

The mirror: $CSAGENT_TEST_MIRROR, else deb.debian.org.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

from csagent.lab.vm.machine import Template
from support.build_cache import cached, key_of

REPOSITORY = Path(__file__).resolve().parents[2]
GUEST_FILES = Path(__file__).resolve().parent / "guest"
MIRROR = os.environ.get("CSAGENT_TEST_MIRROR", "http://deb.debian.org/debian")
SECURITY = os.environ.get("CSAGENT_TEST_SECURITY_MIRROR", "http://deb.debian.org/debian-security")
DISK_SIZE = "1G"
COMMAND_LINE = "root=/dev/vda rw console=ttyS0 loglevel=4 mitigations=off panic=-1"  # of the kernel
LEAST = 900.0  # seconds that a command may take, on a busy machine

# In a mount namespace of its own: where it is killed, what it mounts in the tree, this machine's /dev/shm
# among it, goes with it, and is not found by whoever removes the tree.
MMDEBSTRAP = (
    *("unshare", "--mount", "--propagation", "private"),
    *("mmdebstrap", "--quiet", "--variant=minbase", "--format=directory"),
)
WITHOUT_DOCS = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]

TOOLS = ("mmdebstrap", "dpkg-buildpackage", "dh", "dh_python3", "mke2fs", "unshare")

PACKAGES = (
    "linux-image-cloud-amd64",  # has what CloudStack's guests have: virtio, IDE (ata_piix), iso9660
    *("systemd-sysv", "udev", "dbus", "openssh-server", "iproute2", "passwd", "adduser"),
    *(
        "python3",
        "python3-netifaces",
        "python3-pycdlib",
        "python3-pyudev",
        "python3-yaml",
    ),
    "libseccomp2",
)


class Release(NamedTuple):
    """What is particular to a release of Debian."""

    version: int
    packages: Tuple[str, ...] = ()  # beside PACKAGES
    ours: Tuple[str, ...] = ()  # of PACKAGES, those that we build because it has none
    security: bool = True


SUITES: Dict[str, Release] = {
    # Its support has ended: of the security archive the index is there, and not all that it names.
    "bullseye": Release(11, ours=("python3-pycdlib",), security=False),
    # DHCP clients for tests/system; in the VM it is systemd-networkd, which comes with systemd. And what
    # user-data's templates and partitions are made with.
    "bookworm": Release(12, ("isc-dhcp-client", "dhcpcd-base", "udhcpc", "python3-jinja2", "fdisk")),
    "trixie": Release(13),
}

# What SELinux takes: its policy, and the tools that label a disk. The kernel of each Debian has it.
SELINUX = ("selinux-policy-default", "policycoreutils", "selinux-utils")
SELINUX_LINE = "security=selinux enforcing=1 audit=1"
LABEL = r"""
set -e
mount -t proc proc /proc
sed -i 's/^SELINUX=.*/SELINUX=enforcing/' /etc/selinux/config
setfiles -F -m /etc/selinux/default/contexts/files/file_contexts /
"""

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

    tree: Path  # of a plain one only boot/ is left
    kernel: Path
    initrd: Path
    disk: Path  # raw ext4 without a partition table; boot overlays of it, never itself

    def template(self, line: str) -> Template:
        """It as the lab's machines take it, with a kernel command line."""
        return Template(self.disk, "raw", self.kernel, self.initrd, line)


def build_package(directory: Path) -> Path:
    """Build the packages from this checkout; csagent's, beside which csagent-lab's lies."""
    done = run([REPOSITORY / "packaging" / "build-deb", directory], 120, PYTHON=sys.executable)
    return Path(done.stdout.split("\n")[0])


def built_libraries(directory: Path, suite: str) -> List[Path]:
    """The packages that we build for a release because it has none of them."""
    if not SUITES[suite].ours:
        return []
    run([REPOSITORY / "packaging" / "build-pycdlib", directory], 120, PYTHON=sys.executable)
    return sorted((directory / f"debian-{SUITES[suite].version}").glob("*.deb"))


def installed(
    debs: Sequence[Path],
    suite: str = "bookworm",
    *,
    plain: bool = False,
    seal: Sequence[object] = (),
    selinux: bool = False,
) -> Installed:
    """Make the tree and the disk with these packages, or take them from the cache.

    Args:
        debs: csagent's package, and what the release lacks.
        suite: of `SUITES`.
        plain: as a template builder has it, without what these tests look into a guest with.
        seal: a command that makes a clean template of the tree; `{}` in it is the tree.
        selinux: with Debian's policy, enforcing; the kernel's command line is to have SELINUX_LINE.
    """
    base = _base(suite, SELINUX if selinux else ())
    kind = f"layer-{suite}-{'plain' if plain else 'test'}{'-sealed' if seal else ''}"
    kind += "-selinux" if selinux else ""
    files = [*debs] if plain else [*debs, *sorted(GUEST_FILES.iterdir())]
    key = key_of([base.name, DISK_SIZE, *([LABEL] if selinux else []), *map(str, seal)], files)

    def make(new: Path) -> Path:
        _install(base, debs, new, plain=plain, seal=seal, selinux=selinux)
        return new

    layer = cached(kind, key, make)
    boot = layer / "tree" / "boot"
    (kernel,), (initrd,) = boot.glob("vmlinuz-*"), boot.glob("initrd.img-*")
    return Installed(layer / "tree", kernel, initrd, layer / "disk.raw")


def _base(suite: str, beside: Sequence[str] = ()) -> Path:
    release = SUITES[suite]
    packages = [name for name in (*PACKAGES, *release.packages, *beside) if name not in release.ours]
    more = [] if release.security else ["without security"]

    def make(new: Path) -> Path:
        hooks = (f"--setup-hook={SETUP}", f"--customize-hook={CUSTOMIZE}")
        sources = [f"deb {SECURITY} {suite}-security main"] if release.security else []
        return bootstrapped(new, suite, packages, *hooks, *WITHOUT_DOCS, sources=sources)

    key = key_of([suite, *packages, SETUP, CUSTOMIZE, *more])
    return cached(f"base-{suite}{'-selinux' if beside else ''}", key, make)


def bootstrapped(
    new: Path, suite: str, packages: Sequence[str], *options: str, sources: Sequence[str] = ()
) -> Path:
    """A tree of a release with these packages, made in a directory by mmdebstrap.

    Args:
        options: of mmdebstrap.
        sources: lines for apt beside that of the mirror.
    """
    command = [*MMDEBSTRAP, "--aptopt=APT::Install-Recommends false", "--dpkgopt=force-unsafe-io", *options]
    command += [f"--include={','.join(packages)}", suite, str(new / "tree")]
    run([*command, f"deb {MIRROR} {suite} main", *sources], 1500)
    return new / "tree"


def _install(
    base: Path, debs: Sequence[Path], new: Path, *, plain: bool, seal: Sequence[object], selinux: bool
) -> None:
    tree = new / "tree"
    run(["cp", "-a", "--reflink=auto", base, tree], 300)
    (tree / "packages").mkdir()
    for deb in debs:
        shutil.copy(deb, tree / "packages")
    # In namespaces of its own, so that no daemon and no mount of the package's scripts stays behind.
    script = "mount -t proc proc /proc && dpkg --force-unsafe-io --install /packages/*.deb"
    run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", tree, "sh", "-c", script], 300)
    shutil.rmtree(tree / "packages")
    if not plain:
        _look_into(tree)
    if seal:
        run([tree if word == "{}" else word for word in seal], 120)
    if selinux:
        run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", tree, "sh", "-c", LABEL], 300)
    disk = new / "disk.raw"
    run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", tree, disk, DISK_SIZE], 300)
    if plain:
        for path in tree.iterdir():
            if path.name != "boot":
                path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)


def _look_into(tree: Path) -> None:
    """What these tests look into a guest with."""
    for name, path, mode in (
        ("csagent-test-report", "usr/lib/csagent-test/report", 0o755),
        ("csagent-test-shadow", "usr/lib/csagent-test/shadow-changed", 0o755),
        ("csagent-test-report.service", "etc/systemd/system/csagent-test-report.service", 0o644),
        ("csagent-test-control", "usr/lib/csagent-test/control", 0o755),
        ("csagent-test-control.service", "etc/systemd/system/csagent-test-control.service", 0o644),
        ("slow-devices.conf", "etc/systemd/system.conf.d/slow-devices.conf", 0o644),
    ):
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(GUEST_FILES / name, target)
        target.chmod(mode)
    with open(tree / "etc/pam.d/chpasswd", "a") as stream:
        stream.write("password optional pam_exec.so quiet /usr/lib/csagent-test/shadow-changed\n")
    units = ("csagent-test-report.service", "csagent-test-control.service")
    run(["systemctl", "--quiet", f"--root={tree}", "enable", *units], 30)


def run(command: Sequence[object], timeout: float, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command, with these variables in its environment; if it fails, the error has what it printed.

    `timeout` is for an idle machine; what was slow has failed nothing, and gets LEAST in any case.
    """
    words = [os.fspath(word) if isinstance(word, Path) else str(word) for word in command]
    environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **variables}
    done = subprocess.run(
        words,
        timeout=max(timeout, LEAST),
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{words[0]} failed ({done.returncode}):\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
        )
    return done
