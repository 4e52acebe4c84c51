"""Debian 11 and 13 with our package, judged by `csagent lab vm` as a template is.

Debian 12 is in test_boot.py, from both sources, and in test_image_recipe.py, by the same command.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from support.debian_image import REPOSITORY, SUITES, TOOLS, build_package, built_libraries, installed
from support.requirements import require
from support.vm_machine import BOOT_DEADLINE, COMMAND_LINE, OLDER

from csagent.lab.vm.accelerator import accelerator
from csagent.lab.vm.checks import SCENARIOS

pytestmark = [pytest.mark.vm, pytest.mark.root]

NEEDED = (*TOOLS, "qemu-system-x86_64", "qemu-img", "genisoimage", "ssh", "ssh-keygen", "setpriv", "rpmbuild")
DEADLINE = 2600.0
SEALED = "trixie"  # this one is a clean template, the others are as mmdebstrap leaves them
CSAGENT = (sys.executable, "-I", "-m", "csagent")
SEAL = (*CSAGENT, "--root", "{}", "seal", "--yes")
# What each tells. Every boot is a minute of an emulated processor: Debian 11 reads drives in containers.
TOLD = {"bullseye": ("--only", "router"), "trixie": ("--network",)}


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where csagent's package and those that a release lacks are."""
    require(NEEDED, "boots virtual machines")
    directory = tmp_path_factory.mktemp("packages")
    build_package(directory)
    return directory


@pytest.fixture(scope="module", params=[*TOLD])
def judged(request: pytest.FixtureRequest, packages: Path) -> Dict[str, Any]:
    """What the command says of a release's image."""
    suite = str(request.param)
    debs = [*packages.glob("csagent_*.deb"), *built_libraries(packages, suite)]
    try:
        image = installed(debs, suite, plain=True, seal=SEAL if suite == SEALED else ())
    except RuntimeError as error:  # told for each promise: in short
        pytest.fail(f"no image of {suite}: {str(error)[-1500:]}", pytrace=False)
    boot = ["--kernel", str(image.kernel), "--initrd", str(image.initrd), "--append", COMMAND_LINE]
    # TERM when this process ends: the machines go, too.
    command = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        *CSAGENT,
        "lab",
        "vm",
        str(image.disk),
        *boot,
        "--json",
        "--one-by-one",
        *TOLD[suite],
        *("--cpu", OLDER),
        *("--timeout", str(BOOT_DEADLINE)),
    ]
    before = image.disk.stat()
    done = subprocess.run(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode in (0, 1), f"{suite}: {done.returncode}\n{done.stderr[-4000:]}"
    after = image.disk.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size), (
        "the template is changed"
    )
    document = json.loads(done.stdout)
    sys.stdout.write(f"\n{suite}: {document['seconds']} s, {document['accelerator']}\n")
    return {**document, "suite": suite, "code": done.returncode}


def test_release_keeps_its_promises(judged: Dict[str, Any]) -> None:
    """Every promise of `csagent lab vm` passes; two machines are to be compared where two are booted."""
    wanted = {name for name in SCENARIOS if name != "user-data"}
    if "--only" in TOLD[judged["suite"]]:
        wanted = {"router"}
        assert judged["promises"].pop()["state"] == "skip"
    found = [(one["scenario"], one["name"]) for one in judged["promises"]]
    assert sorted(found) == sorted((scenario, name) for scenario in wanted for name in SCENARIOS[scenario])
    assert [one for one in judged["promises"] if one["state"] != "pass"] == []


def test_document_is_about_the_release(judged: Dict[str, Any]) -> None:
    """The image is the release's, and the exit code goes with the promises."""
    assert f"Debian GNU/Linux {SUITES[judged['suite']].version}" in judged["system"]
    assert (judged["schema"], judged["passed"], judged["code"]) == (1, True, 0)
    assert judged["accelerator"] == ("kvm" if "kvm" in accelerator() else "tcg")
