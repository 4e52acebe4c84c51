"""Disks made by packaging/image's debos recipe, as root and without a virtual machine of debos' own.

The system before csagent is kept in the cache of `support.debian_image`: the next image of that release
takes half a minute.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List, NamedTuple, Optional

from support.debian_image import (
    MIRROR,
    REPOSITORY,
    SECURITY,
    _forget_old,
    _half_made,
    _key,
    cache_directory,
    locked,
    run,
)

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
    kind = f"recipe-debos-{suite}{f'-{last.name}' if last else ''}"
    kind_of_base = f"recipe-base-{suite}"
    depends = run(["dpkg-deb", "--field", deb, "Depends"], 30).stdout
    begun_with = _key(
        [depends, MIRROR, SECURITY, suite], [RECIPES / "debos/base.sh", RECIPES / "debos/csagent.yaml"]
    )
    cache = cache_directory()
    with locked(cache / "lock-recipe-debos"):
        files = [*sorted((RECIPES / "common").iterdir()), *sorted((RECIPES / "debos").iterdir())]
        files += [deb] if last is None or last.csagent else []
        made = cache / f"{kind}-{_key([begun_with, *([last.script] if last else [])], files)}"
        base = cache / f"{kind_of_base}-{begun_with}"
        if not made.exists():
            _forget_old(cache, kind)
            _forget_old(cache, kind_of_base)
            base.mkdir(exist_ok=True)
            with _half_made(cache) as new:
                recipes = RECIPES if last is None else _with_last_step(new / "image", last.script)
                disk = new / "made/template.raw"
                disk.parent.mkdir()
                words: List[object] = [recipes / "debos/build", "--package", deb, "--output", disk]
                words += ["--base", base / "base.tar.gz", "--disable-fakemachine"]
                words += ["-t", f"mirror:{MIRROR}", "-t", f"security:{SECURITY}", "-t", f"suite:{suite}"]
                run(words, 1800)
                disk.parent.rename(made)
        for used in (made, base):
            os.utime(used)
    return made / "template.raw"


def _with_last_step(copy: Path, script: str) -> Path:
    shutil.copytree(RECIPES, copy)
    install = copy / "common/install.sh"
    install.rename(install.with_name("recipe-install.sh"))
    install.write_text(script)
    install.chmod(0o755)
    return copy
