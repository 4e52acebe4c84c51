"""The recipes of packaging/image, as far as their tools judge them without making an image.

tests/vm/test_image_recipe.py carries one of them out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
from support.build_cache import cached, key_of
from support.debian_image import MIRROR
from support.requirements import require

RECIPES = Path(__file__).resolve().parents[2] / "packaging" / "image"
SCRIPTS = sorted(
    path
    for path in RECIPES.rglob("*")
    if path.is_file() and (path.suffix == ".sh" or path.name in ("build", "mkosi.finalize.chroot"))
)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# The mkosi of Debian 12 is of another age; that of 13 is a Python program that runs here as it is.
MKOSI_SUITE = "trixie"
# Every word of a stand-in's command line on a line of its own.
STAND_IN = '#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@" >>"$STAND_IN_LOG"\n'


def run(command: Sequence[object], **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in command],
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )


def said_by(command: Sequence[object], **more: str) -> str:
    done = run(command, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A directory with packages that have only the name, but for the .deb, which has a Depends field."""
    root = tmp_path / "packages"
    (root / "tree" / "DEBIAN").mkdir(parents=True)
    (root / "tree" / "DEBIAN" / "control").write_text(
        "Package: csagent\nVersion: 9\nArchitecture: all\nMaintainer: x <x@csagent.example>\n"
        "Depends: python3 (>= 3.9)\nDescription: x\n"
    )
    said_by(["dpkg-deb", "--build", "--root-owner-group", root / "tree", root / "csagent_9_all.deb"])
    for name in ("csagent-9-1.noarch.rpm", "csagent-9-1.el8.noarch.rpm", "csagent-pycdlib-1-1.noarch.rpm"):
        (root / name).write_bytes(b"")
    return root


def stand_ins(directory: Path, *names: str) -> Dict[str, str]:
    """The environment in which these commands only write down how they were called."""
    directory.mkdir()
    for name in names:
        (directory / name).write_text(STAND_IN)
        (directory / name).chmod(0o755)
    return {"PATH": f"{directory}:{PATH}", "STAND_IN_LOG": str(directory / "log")}


def test_shell_is_portable_and_clean() -> None:
    """shellcheck has nothing to say about any script; the images' shells need not be bash."""
    require(["shellcheck"], "checks the recipes' scripts")
    assert len(SCRIPTS) == 10
    assert said_by(["shellcheck", "-x", "-P", RECIPES.parents[1], *SCRIPTS]) == ""
    for script in SCRIPTS:
        said_by(["dash", "-n", script])
        assert os.access(script, os.X_OK) or script.name == "package.sh", script


# --- what is common ---


@pytest.mark.root
@pytest.mark.parametrize(
    ("manager", "platform", "installed"),
    [
        ("apt-get", "", ["csagent_9_all.deb"]),
        ("dnf", "platform:f43", ["csagent-9-1.noarch.rpm", "csagent-pycdlib-1-1.noarch.rpm"]),
        ("dnf", "platform:el9", ["csagent-9-1.noarch.rpm", "csagent-pycdlib-1-1.noarch.rpm"]),
        ("dnf", "platform:el8", ["csagent-9-1.el8.noarch.rpm", "csagent-pycdlib-1-1.noarch.rpm"]),
    ],
)
def test_image_takes_its_own_kind_of_package(
    manager: str, platform: str, installed: List[str], packages: Path, tmp_path: Path
) -> None:
    """Of all the packages those for this system; the units; seal comes last, when the packages are gone."""
    require(["unshare", "dash"], "runs the script in a mount namespace")
    environment = stand_ins(tmp_path / "bin", manager, "systemctl", "csagent")
    (tmp_path / "os-release").write_text(f'ID=x\nPLATFORM_ID="{platform}"\n')
    (tmp_path / "bin" / "sh").symlink_to("/bin/dash")
    for name in ("dirname", "rm"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    # Only one package manager is there, whatever this machine has.
    inside = f"mount --bind {tmp_path}/os-release /etc/os-release && PATH={tmp_path}/bin exec sh"
    script = RECIPES / "common" / "install.sh"
    names = sorted(path.name for path in packages.glob("csagent*"))
    shutil.copy(script, packages / "install.sh")
    said_by(
        ["unshare", "--mount", "sh", "-c", f'{inside} "$@"', "-", packages / "install.sh", *names],
        **{**environment, "PATH": PATH, "FORGET": str(packages), "SEAL_OPTIONS": "--keep logs"},
    )
    log = (tmp_path / "bin" / "log").read_text()
    assert re.findall(rf"^{packages}/(.*)$", log, re.MULTILINE) == installed
    units = ("csagent.service", "csagent-host-keys.service", "csagent-console.path", "csagent-user-data.path")
    assert "\n".join(("systemctl", "enable", "--quiet", *units, "")) in log
    assert ("\nfdisk\npython3-jinja2\npython3-requests\n" in log) == (manager == "apt-get")
    assert log.endswith("csagent\nseal\n--yes\n--keep\nlogs\n")
    assert not packages.exists()


@pytest.mark.root
def test_package_of_another_system_is_refused(packages: Path, tmp_path: Path) -> None:
    """Nothing is installed or sealed where no package suits."""
    require(["apt-get"], "runs the script of Debian's side")
    environment = stand_ins(tmp_path / "bin", "apt-get", "systemctl", "csagent")
    script = RECIPES / "common" / "install.sh"
    done = run([script, packages / "csagent-9-1.noarch.rpm"], **environment)
    assert done.returncode == 1 and "none of these is for this system" in done.stderr
    done = run([script, packages / "nowhere.deb"], **environment)
    assert done.returncode == 1 and "no such package" in done.stderr
    assert not (tmp_path / "bin" / "log").exists()


def test_recipes_from_nothing_make_the_same_debian() -> None:
    """debos and mkosi install the same packages, but for the two that mkosi replaces."""
    script = (RECIPES / "debos" / "base.sh").read_text()
    lists = re.findall(
        r"install -y -qq --no-install-recommends ((?:\\\n\s+)?[^$\n][^\n]*(?:\n {4}.*)*)", script
    )
    debos = set(re.sub(r'[\\"]', " ", " ".join(lists)).split())
    config = (RECIPES / "mkosi" / "mkosi.conf").read_text()
    found = re.search(r"^Packages=\n((?: +\S+\n)+)", config, re.MULTILINE)
    assert found is not None
    mkosi = set(found.group(1).split())
    assert {"$kernel", "openssh-server", "systemd-resolved"} <= debos
    assert debos - {"$kernel", "grub-pc", "initramfs-tools", "systemd-repart"} == mkosi - {"grub-pc-bin"}


def test_newest_packages_of_dist_are_taken(packages: Path, tmp_path: Path) -> None:
    """Of each kind the newest, without --package, and not the lab, which no guest needs; or what to do."""
    shutil.copytree(RECIPES, tmp_path / "packaging" / "image")
    dist = tmp_path / "dist"
    (dist / "el8").mkdir(parents=True)
    for name in ("csagent-lab_9_all.deb", "csagent-lab-9-1.noarch.rpm", "el8/csagent-lab-9-1.el8.noarch.rpm"):
        (dist / name).write_bytes(b"")
    for path in packages.glob("csagent*"):
        target = dist / ("el8" if ".el8." in path.name else ".") / path.name
        shutil.copy(path, target)
        old = target.with_name(path.name.replace("9", "10"))  # a higher version, but an older file
        shutil.copy(path, old)
        os.utime(old, (1, 1))
    environment = stand_ins(tmp_path / "bin", "virt-customize")
    # --add IMAGE --copy-in DIRECTORY:/root
    (tmp_path / "bin" / "virt-customize").write_text('#!/bin/sh\ncp "${4%:*}"/* "${0%/*}"/\n')
    (tmp_path / "base.raw").write_bytes(b"")
    build = tmp_path / "packaging" / "image" / "virt-customize" / "build"
    said_by([build, tmp_path / "base.raw", "--output", tmp_path / "new.raw"], **environment)
    taken = (tmp_path / "bin" / "packages").read_text().split()
    expected = ["csagent-9-1.noarch.rpm", "csagent-9-1.el8.noarch.rpm", "csagent_9_all.deb"]
    assert sorted(taken) == sorted([*expected, "csagent-pycdlib-1-1.noarch.rpm"])
    assert all((tmp_path / "bin" / name).exists() for name in [*taken, "install.sh"])

    shutil.rmtree(dist)
    for words in (["virt-customize", tmp_path / "base.raw"], ["debos"], ["mkosi"], ["packer", "qemu"]):
        command = [tmp_path / "packaging" / "image" / str(words[0]) / "build", *words[1:]]
        done = run(["env", "-C", tmp_path, *command])
        assert done.returncode == 1 and "./dev package" in done.stderr, done.stderr


# --- each with its tool ---


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ([], ["action: debootstrap", "script: base.sh linux-image-cloud-amd64 "]),
        (["kernel:linux-image-amd64", "suite:trixie"], ["suite: trixie", "base.sh linux-image-amd64 "]),
        (["base:base.tar.gz"], ["action: debootstrap", "action: pack"]),
        (["base:base.tar.gz", "have:yes"], ["action: unpack"]),
    ],
)
def test_debos_understands_its_recipe(variables: List[str], words: List[str], tmp_path: Path) -> None:
    """With the defaults, another kernel and release, a base to keep and a base that is there."""
    require(["debos"], "has debos check the recipe")
    # Beside the recipe are the scripts, as debos/build puts them.
    for path in (*RECIPES.glob("debos/*"), *RECIPES.glob("common/*")):
        shutil.copy(path, tmp_path)
    options = [word for one in ["package:csagent_9_all.deb", *variables] for word in ("-t", one)]
    command = ["debos", "--disable-fakemachine", "--dry-run", "--print-recipe", *options]
    said = said_by([*command, tmp_path / "csagent.yaml"])
    assert "Recipe done (Dry run)" in said
    assert all(word in said for word in [*words, "script: install.sh csagent_9_all.deb"])
    assert ("debootstrap" in said) == ("have:yes" not in variables)


@pytest.fixture(scope="module")
def mkosi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with Debian 13's mkosi as a command; from the cache, or by apt, which checks signatures."""
    require(["apt-get", "dpkg-deb"], "fetches mkosi")

    def make(new: Path) -> Path:
        private = tmp_path_factory.mktemp("apt")
        for name in ("state/lists/partial", "cache/archives/partial", "etc"):
            (private / name).mkdir(parents=True)
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (private / "sources.list").write_text(f"deb [signed-by={keyring}] {MIRROR} {MKOSI_SUITE} main\n")
        apt = ["apt-get", "-qq", "-o", f"Dir::State={private}/state", "-o", f"Dir::Cache={private}/cache"]
        apt += ["-o", f"Dir::Etc={private}/etc", "-o", f"Dir::Etc::sourcelist={private}/sources.list"]
        apt += ["-o", "Dir::State::status=/dev/null", "-o", "APT::Sandbox::User=root"]
        apt += ["-o", "Acquire::Languages=none"]
        said_by([*apt, "update"])
        said_by(["env", "-C", new, *apt, "download", "mkosi"])
        return new

    (deb,) = cached(f"mkosi-{MKOSI_SUITE}", key_of([MIRROR, MKOSI_SUITE]), make).glob("mkosi_*.deb")
    root = tmp_path_factory.mktemp("mkosi")
    said_by(["dpkg-deb", "--extract", deb, root])
    command = root / "bin" / "mkosi"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH={root}/usr/lib/python3/dist-packages exec {sys.executable} -m mkosi "$@"\n'
    )
    command.chmod(0o755)
    return command.parent


def summary(mkosi: Path, deb: Path, *options: str) -> Dict[str, Any]:
    command = [RECIPES / "mkosi" / "build", "--check", "--package", deb, *options, "--json"]
    done = run(command, PATH=f"{mkosi}:{PATH}")
    assert (done.returncode, done.stderr) == (0, "")
    (image,) = json.loads(done.stdout)["Images"]
    found: Dict[str, Any] = image
    return found


@pytest.mark.root
def test_mkosi_understands_its_recipe(mkosi: Path, packages: Path) -> None:
    """Its summary has BIOS boot by GRUB, the partitions, csagent from a local package, and the seal."""
    image = summary(mkosi, packages / "csagent_9_all.deb")
    assert (image["Distribution"], image["Release"], image["Format"]) == ("debian", "bookworm", "disk")
    assert (image["Bootable"], image["Bootloader"], image["BiosBootloader"]) == ("enabled", "none", "grub")
    assert image["VolatilePackages"] == ["csagent"] and len(image["PackageDirectories"]) == 1
    assert len(image["RepartDirectories"]) == len(image["FinalizeScripts"]) == 1
    assert "console=ttyS0,115200" in image["KernelCommandLine"]
    assert "linux-image-cloud-amd64" in image["Packages"]


@pytest.mark.root
def test_mkosi_has_a_profile_for_vmware(mkosi: Path, packages: Path) -> None:
    """It has the kernel with VMware's drivers instead of the cloud kernel, not beside it."""
    image = summary(mkosi, packages / "csagent_9_all.deb", "--profile", "vmware")
    assert [name for name in image["Packages"] if name.startswith("linux-image")] == ["linux-image-amd64"]
    assert "open-vm-tools" in image["Packages"]


ZONE = ("zone", "network", "service_offering", "source_template")
API = {
    "CLOUDSTACK_API_URL": "http://127.0.0.1:9/client/api",
    "CLOUDSTACK_API_KEY": "EXAMPLE",
    "CLOUDSTACK_SECRET_KEY": "EXAMPLE",
}


def packer(builder: str, deb: Path, *variables: str, **more: str) -> "subprocess.CompletedProcess[str]":
    options = [word for one in variables for word in ("-var", one)]
    command = [RECIPES / "packer" / "build", builder, "--check", "--package", deb, *options]
    return run(command, CHECKPOINT_DISABLE="1", PACKER_CACHE_DIR=str(deb.parent), **more)


def test_packer_understands_its_recipes(packages: Path) -> None:
    """Both builders are valid; a variable too few or too many is not, and there are no keys in the files."""
    require(["packer", "ssh-keygen"], "has Packer check the recipes")
    deb = packages / "csagent_9_all.deb"
    base = (f"base_image={deb}", "base_checksum=none")
    zone = [f"{name}=x" for name in ZONE]
    for done in (packer("qemu", deb, *base), packer("cloudstack", deb, *zone, **API)):
        assert done.returncode == 0, done.stdout + done.stderr
    done = packer("cloudstack", deb, *zone[1:], **API)
    assert done.returncode != 0 and "zone" in done.stdout + done.stderr
    assert packer("qemu", deb, *base, "another=x").returncode != 0
    assert packer("cloudstack", deb, *zone).returncode != 0


def test_packers_files_are_formatted(tmp_path: Path) -> None:
    """As `packer fmt` has them, the plugins' included, which this Packer may be too old to read."""
    require(["packer"], "has Packer check the recipes")
    for path in RECIPES.glob("packer/*.pkr.hcl"):
        said = run(["packer", "fmt", "-check", "-diff", path], CHECKPOINT_DISABLE="1")
        assert (said.returncode, said.stdout) == (0, ""), path


def test_virt_customize_installs_into_a_copy_and_seals_it(packages: Path, tmp_path: Path) -> None:
    """One call: the caller's words, then the packages, then install.sh; the image given stays as it is."""
    environment = stand_ins(tmp_path / "bin", "virt-customize")
    image = tmp_path / "base.qcow2"
    image.write_bytes(b"image")
    build = RECIPES / "virt-customize" / "build"
    given = ["--package", packages / "csagent_9_all.deb", "--package", packages / "csagent-9-1.noarch.rpm"]
    command = [build, image, "--output", tmp_path / "new.qcow2", *given, "--install", "vim"]
    assert said_by(command, **environment).strip() == str(tmp_path / "new.qcow2")
    called = (tmp_path / "bin" / "log").read_text().splitlines()
    assert called[:5] == ["virt-customize", "--add", f"{tmp_path}/new.qcow2.part", "--install", "vim"]
    assert called[5] == "--copy-in" and called[6].endswith("/image-build:/root")
    assert called[7] == "--run-command" and "./install.sh $(cat packages)" in called[8]
    assert called[9:] == ["--selinux-relabel"]
    assert (tmp_path / "new.qcow2").read_bytes() == image.read_bytes() == b"image"
    again = run(command, **environment)
    assert again.returncode == 1 and "is there already" in again.stderr


def test_virt_customize_has_the_options_that_are_used() -> None:
    """By its own --help; where it is not installed (it brings 70 packages) this is not known."""
    if shutil.which("virt-customize", path=PATH) is None:
        pytest.skip("virt-customize (guestfs-tools) is not installed")
    known = said_by(["virt-customize", "--help"])
    used = re.findall(
        r"^(?:virt-customize|    ).*?(--[a-z-]+)", (RECIPES / "virt-customize/build").read_text(), re.M
    )
    options = set(used) & {"--add", "--copy-in", "--run-command", "--selinux-relabel"}
    assert len(options) == 4
    assert all(option in known for option in options)


@pytest.mark.parametrize(
    ("words", "tool"),
    [
        (("debos/build", "--package", "FILE"), "debos"),
        (("mkosi/build", "--package", "FILE"), "mkosi"),
        (("virt-customize/build", "FILE", "--package", "FILE"), "virt-customize"),
        (("packer/build", "qemu", "--package", "FILE"), "packer"),
    ],
)
def test_a_recipe_without_its_tool_says_what_to_install(
    words: Sequence[str], tool: str, tmp_path: Path
) -> None:
    """One line with the package, before anything is made."""
    (tmp_path / "csagent.deb").write_bytes(b"")
    for path in (*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()):
        link = tmp_path / path.name
        if path.name not in ("debos", "mkosi", "virt-customize", "packer") and not link.is_symlink():
            link.symlink_to(path)
    given = [str(tmp_path / "csagent.deb") if word == "FILE" else word for word in words[1:]]
    done = run(["env", "-C", tmp_path, RECIPES / words[0], *given], PATH=str(tmp_path))
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(rf"this recipe needs {tool} \(Debian: apt install [a-z-]+\)\n", done.stderr)
