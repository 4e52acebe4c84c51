"""Disks made by packaging/image's debos recipe, as root and without a virtual machine of debos' own.

The system before csagent is kept in `support.build_cache`, too: the next image of that release
takes half a minute.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List, NamedTuple, Optional

from support.build_cache import cache_directory, cached, key_of, locked
from support.debian_image import MIRROR, REPOSITORY, SECURITY, run

RECIPES = REPOSITORY / "packaging" / "image"
TOOLS = (
    *("debos", "debootstrap", "systemd-nspawn", "parted", "mkfs.ext4", "dpkg-buildpackage", "dh", "losetup"),
    *("qemu-system-x86_64", "qemu-img", "unshare"),
)


class LastStep(NamedTuple):
    """What takes the place of the recipe's last step, common/install.sh.

    That lies beside the script as recipe-install.sh. Both are called with the name of csagent's package.
    """

    name: str
    script: str
    csagent: bool = True  # whether it installs the package


def recipe_image(deb: Path, suite: str = "bookworm", last: Optional[LastStep] = None) -> Path:
    """A raw disk that boots by GRUB, from the cache where it is there.

    Args:
        deb: csagent's package.
        suite: of Debian.
        last: instead of the recipe's own last step.
    """
    depends = run(["dpkg-deb", "--field", deb, "Depends"], 30).stdout
    begun_with = key_of(
        [depends, MIRROR, SECURITY, suite], [RECIPES / "debos/base.sh", RECIPES / "debos/csagent.yaml"]
    )

    def make_base(new: Path) -> Path:
        return new  # debos puts base.tar.gz there

    def make(new: Path) -> Path:
        base = cached(f"recipe-base-{suite}", begun_with, make_base)
        recipes = RECIPES if last is None else _with_last_step(new / "image", last.script)
        disk = new / "made/template.raw"
        disk.parent.mkdir()
        words: List[object] = [recipes / "debos/build", "--package", deb, "--output", disk]
        words += ["--base", base / "base.tar.gz", "--disable-fakemachine"]
        words += ["-t", f"mirror:{MIRROR}", "-t", f"security:{SECURITY}", "-t", f"suite:{suite}"]
        with locked(cache_directory() / "lock-debos"):
            run(words, 1800)
        return disk.parent

    files = [*sorted((RECIPES / "common").iterdir()), *sorted((RECIPES / "debos").iterdir())]
    files += [deb] if last is None or last.csagent else []
    kind = f"recipe-debos-{suite}{f'-{last.name}' if last else ''}"
    made = cached(kind, key_of([begun_with, *([last.script] if last else [])], files), make)
    return made / "template.raw"


def _with_last_step(copy: Path, script: str) -> Path:
    shutil.copytree(RECIPES, copy)
    install = copy / "common/install.sh"
    install.rename(install.with_name("recipe-install.sh"))
    install.write_text(script)
    install.chmod(0o755)
    return copy
