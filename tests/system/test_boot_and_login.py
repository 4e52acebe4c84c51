"""Boots of a real systemd with csagent and without: nothing waits for it, but what asks for it does."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Callable, Dict, Iterator

import pytest
from support.replace_fields import replace
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
# bootcmd begins while the boot goes on: multi-user.target waits for that. Then each waits for the test.
DOCUMENT = b"""\
#cloud-config
bootcmd:
  - touch /run/in-bootcmd
  - until test -e /run/end-bootcmd; do sleep 0.1; done
runcmd:
  - touch /run/in-runcmd
  - until test -e /run/end-runcmd; do sleep 0.1; done
  - exit 3
"""
UNTIL_BOOTCMD = """[Service]
Type=oneshot
ExecStart=/bin/sh -c 'until test -e /run/in-bootcmd; do sleep 0.1; done'
"""
# What is being started when a prompt comes, after 5 s at the latest; when the boot was over, 0 for not yet.
PROMPT_WITH_JOBS = """[Service]
Type=idle
ExecStart=/bin/sh -c 'systemctl list-jobs --no-legend >/run/jobs; \
    systemctl show --value -p FinishTimestampMonotonic >/run/over; mv /run/over /run/at-prompt; \
    exec sleep infinity'
"""
LOOKS_AT_IT = """[Unit]
{0}
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'systemctl is-active csagent-user-data.service >/run/%N || true'
"""
FINAL, USER_DATA_TARGET = "csagent-user-data.service", "csagent-user-data.target"
CONFIG_DRIVE = "[Service]\nExecStart=\nExecStart=/usr/bin/csagent daemon --drive /srv/drive\n"
SLOW_ONCE = """[Service]
ExecStart=
ExecStart=/bin/sh -c 'test -e /run/slow-once || { >/run/slow-once; sleep infinity; }; \
    exec /usr/bin/csagent daemon'
"""
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

        def start(
            name: str, *, csagent: bool = True, source: bool = False, units: str = "", user_data: bytes = b""
        ) -> Container:
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
            if user_data:
                units_of_user_data(box)
            if source:
                cloud = replace(describe("web-01", 1), user_data=user_data)
                drive.build_tree(str(box.upper / "srv/drive"), drive.files_for(cloud))
                box.put("/etc/systemd/system/csagent.service.d/drive.conf", CONFIG_DRIVE)
            box.boot()
            return box

        yield start


def units_of_user_data(box: Container) -> None:
    """Its path enabled; units of others that are held up, or would be, by what it does."""
    # No manager runs that would ever say that the network is there.
    (box.upper / "etc/systemd/system/NetworkManager-wait-online.service").symlink_to("/dev/null")
    box.put("/etc/systemd/system/prompt.service", PROMPT_WITH_JOBS)
    box.put("/etc/systemd/system/until-bootcmd.service", UNTIL_BOOTCMD)
    box.put("/etc/systemd/system/apt-daily.service", LOOKS_AT_IT.format(""))
    box.put("/etc/systemd/system/behind.service", LOOKS_AT_IT.format(f"After={USER_DATA_TARGET}"))
    wants = box.upper / f"etc/systemd/system/{USER_DATA_TARGET}.wants"
    wants.mkdir()
    (wants / "behind.service").symlink_to("/etc/systemd/system/behind.service")
    path = "csagent-user-data.path"
    (box.upper / WANTS / path).symlink_to(f"/usr/lib/systemd/system/{path}")


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


def test_a_reload_before_it_listens_does_not_end_it(boot: Boot) -> None:
    """SIGHUP in the moment of the start: systemd, for which that is a clean end, starts it again."""
    box = boot("box")
    box.do("mkdir", "-p", "/etc/systemd/system/csagent.service.d")
    box.write("/etc/systemd/system/csagent.service.d/slow.conf", SLOW_ONCE)
    box.do("systemctl", "daemon-reload")
    box.do("systemctl", "restart", "csagent.service")
    box._until(lambda: box.run("test", "-e", "/run/slow-once").returncode == 0, "does not start it")
    box.do("systemctl", "reload", "csagent.service")
    box._until(lambda: box.run("pgrep", "-x", "csagent").returncode == 0, "does not start it again")
    assert box.do("systemctl", "is-active", "csagent.service").strip() == "active"


def test_scripts_do_not_hold_back_the_boot(boot: Boot) -> None:
    """Neither bootcmd nor runcmd; what is ordered behind user-data waits for the end of both."""
    box = boot("box", source=True, units="until-bootcmd.service", user_data=DOCUMENT)

    def says(*words: str) -> str:
        return box.run("systemctl", *words).stdout.strip()

    def jobs() -> Dict[str, str]:
        lines = [line.split() for line in says("list-jobs", "--no-legend", "--plain").splitlines()]
        return {words[1]: words[-1] for words in lines}

    def wait_for(path: str) -> None:
        box._until(lambda: box.run("test", "-e", path).returncode == 0, f"has no {path}")

    assert says("is-system-running") == "running"
    assert says("is-active", "multi-user.target", USER_DATA_TARGET).split() == ["active", "inactive"]
    wait_for("/run/at-prompt")
    if box.read("/run/at-prompt").strip() == "0":
        held_back = [line for line in box.read("/run/jobs").splitlines() if line.split()[-1] == "running"]
        assert "csagent" not in str(held_back)
    box._until(lambda: says("is-active", FINAL) == "activating", "does not start the final part")
    assert box.run("test", "-e", "/run/in-runcmd").returncode == 1
    box.do("systemctl", "start", "--no-block", "apt-daily.service")
    assert jobs()["apt-daily.service"] == jobs()["behind.service"] == "waiting"
    assert box.run("csagent", "status", "--wait", "0.5").returncode == 1

    box.do("touch", "/run/end-bootcmd")
    wait_for("/run/in-runcmd")
    box.do("csagent", "status", "--wait", "600")
    assert box.run("csagent", "status", "--wait", "0.5", "--user-data").returncode == 1
    assert says("is-system-running") == "running"
    assert jobs()["apt-daily.service"] == jobs()["behind.service"] == "waiting"
    assert says("is-active", USER_DATA_TARGET) == "inactive"

    box.do("touch", "/run/end-runcmd")
    box.do("csagent", "status", "--wait", "600", "--user-data")
    box._until(lambda: says("is-active", USER_DATA_TARGET) == "active", "does not reach the target")
    box._until(lambda: not jobs(), "has jobs still")
    assert [box.read(f"/run/{name}").strip() for name in ("apt-daily", "behind")] == ["failed"] * 2
    assert says("list-units", "--failed", "--no-legend", "--plain").split()[0] == FINAL
    assert says("is-system-running") == "degraded"
