"""What a guest installs for an agent: packages, MiB and files, on Debian with neither of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support import debian_image  # noqa: E402
from support.build_cache import cached, key_of  # noqa: E402

SUITES = ("bookworm", "trixie")
SERVER = ("systemd-sysv", "udev", "dbus", "openssh-server", "iproute2", "passwd")
OURS = "/agent.deb"  # in the tree
BY_ITSELF = ", with all that apt takes by itself"  # what is recommended, and recommended by that
# What is installed: packages, and whether what they recommend is, too.
CHOICES: Dict[str, Tuple[Tuple[str, ...], bool]] = {
    "csagent": ((OURS,), False),
    "csagent, with what user-data takes": ((OURS, "fdisk", "python3-jinja2", "python3-requests"), False),
    f"csagent{BY_ITSELF}": ((OURS,), True),
    "cloud-init": (("cloud-init",), False),
    f"cloud-init{BY_ITSELF}": (("cloud-init",), True),
}
SHOWN = "${db:Status-Abbrev} ${binary:Package} ${Installed-Size}\\n"
IN_ONE_MIB = 1024  # KiB, of which dpkg counts
APT = """
set -e
mount -t proc proc /proc
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 "$@"
apt-get clean
"""


def install(tree: Path, packages: Sequence[str], *, recommended: bool = False) -> None:
    """Install packages in a tree by its own apt, from this machine's mirror.

    Args:
        packages: names, or paths in the tree.
        recommended: what they recommend, too.

    Raises:
        RuntimeError: it failed.
    """
    for name in ("resolv.conf", "hosts"):
        shutil.copy(f"/etc/{name}", tree / "etc" / name)
    enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", tree]
    option = f"APT::Install-Recommends={'true' if recommended else 'false'}"  # mmdebstrap has left it false
    debian_image.run([*enter, "sh", "-c", APT, "sh", "-o", option, "install", *packages], 600)


def installs() -> Dict[str, Any]:
    """By release and choice: how many packages, MiB and files there are more than without."""
    with tempfile.TemporaryDirectory(prefix="csagent-bench-") as scratch:
        deb = debian_image.build_package(Path(scratch) / "deb")
        return {
            str(debian_image.SUITES[suite].version): {
                name: _installed(_server(suite), Path(scratch), deb, packages, recommended=recommended)
                for name, (packages, recommended) in CHOICES.items()
            }
            for suite in SUITES
        }


def _server(suite: str) -> Path:
    """A machine that is reached by ssh, and no more."""

    def make(new: Path) -> Path:
        return debian_image.bootstrapped(new, suite, SERVER)

    return cached(f"bench-{suite}", key_of([suite, *SERVER]), make)


def _installed(
    server: Path, scratch: Path, deb: Path, packages: Sequence[str], *, recommended: bool
) -> Dict[str, Any]:
    tree = scratch / "tree"
    debian_image.run(["cp", "-a", "--reflink=auto", server, tree], 300)
    before = _packages(tree)
    shutil.copy(deb, tree / OURS.lstrip("/"))
    install(tree, packages, recommended=recommended)
    new = {name: size for name, size in _packages(tree).items() if name not in before}
    files = sum(_files(tree, name) for name in new)
    shutil.rmtree(tree)
    return {"packages": len(new), "mib": round(sum(new.values()) / IN_ONE_MIB, 1), "files": files}


def _packages(tree: Path) -> Dict[str, int]:
    """The names of what is installed, and the KiB of each."""
    shown = _dpkg_query(tree, "--show", f"--showformat={SHOWN}")
    rows = [line.split() for line in shown.splitlines()]
    return {name: int(size) for status, name, size in rows if status == "ii"}


def _files(tree: Path, package: str) -> int:
    """How many files a package has, links among them."""
    paths = [tree / path.lstrip("/") for path in _dpkg_query(tree, "--listfiles", package).splitlines()]
    return sum(path.is_symlink() or path.is_file() for path in paths)


def _dpkg_query(tree: Path, *words: str) -> str:
    command = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout


def table(result: Dict[str, Any]) -> List[str]:
    """Lines of Markdown."""
    lines = ["| what a guest installs | packages | MiB | files |", "|---|--:|--:|--:|"]
    for version, choices in result.items():
        for name, row in choices.items():
            lines.append(f"| Debian {version}, {name} | {row['packages']} | {row['mib']} | {row['files']} |")
    return [*lines, "", f"Beside Debian's base and {', '.join(SERVER)}; MiB as dpkg counts them.", ""]
