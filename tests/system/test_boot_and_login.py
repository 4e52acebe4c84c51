"""Boots of a real systemd with csagent and without: nothing waits for it, but what asks for it does."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Callable, Dict, Iterator

import pytest
from support.requirements import require
from support.systemd_container import TOOLS, Container, layer, tree
from support.vm_cloud import describe

from csagent.lab import drive

pytestmark = [pytest.mark.root]

SUITE = "bookworm"
WANTS = "etc/systemd/system/multi-user.target.wants"
# As a getty is started: systemd holds it back while any start job is under way, for 5 s at most.
PROMPT = "[Service]\nType=idle\nExecStart=/bin/sleep infinity\n"
WAITER = """[Unit]
DefaultDependencies=no
Wants=csagent-ready.target
After=csagent-ready.target
[Service]
Type=oneshot
ExecStart=/bin/cp /run/csagent/status.json /run/seen.json
"""
CONFIG_DRIVE = "[Service]\nExecStart=\nExecStart=/usr/bin/csagent daemon --drive /srv/drive\n"
MOMENTS = {
    "prompt": ("prompt.service", "ExecMainStartTimestampMonotonic"),
    "multi-user": ("multi-user.target", "ActiveEnterTimestampMonotonic"),
    "finished": (None, "FinishTimestampMonotonic"),
}
Boot = Callable[..., Container]


@pytest.fixture(scope="module")
def package_layer(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package of this checkout puts on the disk."""
    require(TOOLS, "runs containers with a systemd of their own")
    return layer(deb, tmp_path_factory.mktemp("layer"))


@pytest.fixture
def boot(package_layer: Path, tmp_path: Path) -> Iterator[Boot]:
    """Boots containers without a network, with csagent and a config drive, csagent alone, or neither."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *, csagent: bool = True, source: bool = False, units: str = "") -> Container:
            lower = [package_layer, tree(SUITE)] if csagent else [tree(SUITE)]
            box = Container(lower, tmp_path / name, None)
            stack.callback(box.kill)
            box.put("/etc/systemd/system/prompt.service", PROMPT)
            box.put("/etc/systemd/system/waiter.service", WAITER)
            wanted = ["prompt.service", *units.split(), *(["csagent.service"] if csagent else [])]
            (box.upper / WANTS).mkdir(parents=True)
            for unit in wanted:
                (box.upper / WANTS / unit).symlink_to(f"/etc/systemd/system/{unit}")
            if csagent:
                where = package_layer / "usr/lib/systemd/system/csagent.service"
                (box.upper / WANTS / "csagent.service").unlink()
                (box.upper / WANTS / "csagent.service").symlink_to(f"/{where.relative_to(package_layer)}")
            if source:
                drive.build_tree(str(box.upper / "srv/drive"), drive.files_for(describe("web-01", 1)))
                box.put("/etc/systemd/system/csagent.service.d/drive.conf", CONFIG_DRIVE)
            box.boot()
            return box

        yield start


def moments(box: Container) -> Dict[str, float]:
    """Seconds from process 1 to each moment of the boot."""

    def at(unit: object, name: str) -> float:
        words = [str(unit)] if unit else []
        return int(box.do("systemctl", "show", "--value", "-p", name, *words).strip() or 0) / 1e6

    began = at(None, "UserspaceTimestampMonotonic")
    return {what: round(at(unit, name) - began, 2) for what, (unit, name) in MOMENTS.items()}


@pytest.mark.parametrize("has_source", [False, True], ids=["no-source", "config-drive"])
def test_nothing_of_the_boot_waits_for_csagent(boot: Boot, has_source: bool) -> None:
    """Login prompt, multi-user.target and the end of the boot do not wait for a pass.

    It would need 30 s without a source. The figures of three pairs are in the log.
    """
    for number in range(3):
        without = moments(boot(f"without-{number}", csagent=False))
        box = boot(f"with-{number}", source=has_source)
        pending = box.run("csagent", "status").returncode == 1
        logging.getLogger(__name__).info(f"without {without}, with {moments(box)}, pass over: {not pending}")
        assert box.do("systemctl", "is-system-running").strip() == "running"
        assert box.do("systemctl", "is-active", "prompt.service", "csagent.service").split() == ["active"] * 2
        assert box.run("systemctl", "is-active", "csagent-first-pass.service").stdout.strip() == "inactive"
        if not has_source:
            assert pending, "the boot waited for the first pass"
            assert box.do("systemctl", "list-jobs", "--no-legend", "--no-pager").strip() == ""
        box.kill()


@pytest.mark.parametrize("has_source", [False, True], ids=["no-source", "config-drive"])
def test_what_asks_for_the_target_starts_behind_the_first_pass(boot: Boot, has_source: bool) -> None:
    """With and without a source; the status file is there when it starts."""
    box = boot("box", source=has_source, units="waiter.service")
    assert json.loads(box.read("/run/seen.json"))["source_found"] is has_source
    assert box.do("systemctl", "is-active", "csagent-ready.target", "csagent-first-pass.service").split() == [
        "active",
        "active",
    ]


def test_where_csagent_cannot_start_the_target_fails(boot: Boot) -> None:
    """Settings that are wrong end the daemon; who requires the target hears of it: nobody waits 15 min."""
    box = boot("box")
    box.write("/etc/csagent/csagent.yaml", "pol: 0\n")
    assert box.run("systemctl", "restart", "csagent.service").returncode in (0, 1)
    done = box.run("systemctl", "start", "csagent-ready.target")
    assert done.returncode == 1, done.stderr
    assert box.run("systemctl", "is-failed", "csagent.service").stdout.strip() == "failed"
