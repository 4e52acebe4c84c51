"""One Debian 12 image, four agents (none, csagent, cloud-init, a shell script), each in its first boot.

With one more of csagent's where nobody answers it.

Emulated, the guest's clock counts instructions, 10^9 a second: what else this machine does changes nothing.
The kernel's command line says which of them runs.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from installs import install  # noqa: E402
from support import debian_image  # noqa: E402
from support.name_server import NameServer  # noqa: E402
from world import public_key  # noqa: E402

from csagent.lab.cloud import Cloud  # noqa: E402
from csagent.lab.router import LabRouter  # noqa: E402
from csagent.lab.vm import machine as lab  # noqa: E402
from csagent.lab.vm.accelerator import steady  # noqa: E402
from csagent.lab.vm.namespace import Namespace  # noqa: E402

UNANSWERED = "csagent, no source"
BUSY = {agent: f"{agent}, busy" for agent in ("none", "csagent", "cloud-init")}
AGENTS = ("none", "csagent", UNANSWERED, "cloud-init", "script", *BUSY.values())
PACKAGES = ("cloud-init", "wget", "curl")
DEADLINE = 900.0  # seconds of a boot
END = b"\nend of report"
SIDE_BY_SIDE = 2
FILES = (
    ("bench-report", "usr/lib/csagent-bench/bench-report", 0o755),
    ("bench-script", "usr/lib/csagent-bench/bench-script", 0o755),
    ("bench-busy.service", "etc/systemd/system/bench-busy.service", 0o644),
    ("bench-report.service", "etc/systemd/system/bench-report.service", 0o644),
    ("bench-script.service", "etc/systemd/system/bench-script.service", 0o644),
    *(
        ("only-csagent.conf", f"etc/systemd/system/{units}.d/bench.conf", 0o644)
        for units in ("csagent.service", "csagent-.service", "csagent-.path")
    ),
    ("99-bench.cfg", "etc/cloud/cloud.cfg.d/99-bench.cfg", 0o644),
)
# Debian's own server answers at once that it does not know a name; the virtual router knows one.
RESOLVER = "nameserver 10.1.1.1\noptions timeout:1 attempts:1\n"


def vm(runs: int) -> Dict[str, Any]:
    """Boot each so often; by agent the medians of what its boots reported."""
    scratch = Path(tempfile.mkdtemp(prefix="csagent-bench-"))
    try:
        template = _template(scratch)
        jobs = [(agent, scratch / str(number)) for number, agent in enumerate(AGENTS * runs)]
        with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            reports = list(pool.map(lambda job: _boot(template, *job), jobs))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    by_agent = {agent: [one for one in reports if one["agent"] == agent] for agent in AGENTS}
    rows = {agent: _median(each) for agent, each in by_agent.items()}
    return {"runs": runs, "processor": " ".join(steady()), "agents": rows}


def _template(scratch: Path) -> lab.Template:
    (deb,) = [debian_image.build_package(scratch)]
    base = debian_image.installed([deb], plain=False)
    tree, disk = scratch / "tree", scratch / "disk.raw"
    debian_image.run(["cp", "-a", "--reflink=auto", base.tree, tree], 300)
    for name in ("csagent-test-report", "csagent-test-control"):
        (tree / f"etc/systemd/system/{name}.service").unlink()
        (tree / f"etc/systemd/system/multi-user.target.wants/{name}.service").unlink(missing_ok=True)
        (tree / f"etc/systemd/system/graphical.target.wants/{name}.service").unlink(missing_ok=True)
    pam = tree / "etc/pam.d/chpasswd"
    pam.write_text("".join(line for line in pam.read_text().splitlines(True) if "csagent-test" not in line))
    install(tree, PACKAGES)
    for name, path, mode in FILES:
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "guest" / name, target)
        target.chmod(mode)
    (tree / "etc/resolv.conf").write_text(RESOLVER)
    (tree / "etc/hosts").write_text("127.0.0.1\tlocalhost\n")
    units = ("bench-report.service", "bench-script.service", "bench-busy.service")
    debian_image.run(["systemctl", "--quiet", f"--root={tree}", "enable", *units], 30)
    debian_image.run(["chroot", tree, "ssh-keygen", "-A"], 60)
    debian_image.run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", tree, disk, "2G"], 300)
    return lab.Template(disk, "raw", base.kernel, base.initrd, debian_image.COMMAND_LINE)


def _boot(template: lab.Template, agent: str, directory: Path) -> Dict[str, Any]:
    directory.mkdir()
    cloud = Cloud(
        hostname="bench-vm",
        ssh_keys=tuple(public_key(number) for number in range(3)),
        password="EXAMPLE-bench",
        user_data=b"#!/bin/sh\ntrue\n",
    )
    kind = _kind(agent)
    line = f"{template.append} bench={kind}"
    line += " bench-unanswered" if agent == UNANSWERED else ""
    line += " bench-busy" if agent in BUSY.values() else ""
    line += "" if kind == "cloud-init" else " cloud-init=disabled"
    line += " bench-ours" if kind == "csagent" else ""
    with Namespace() as namespace:
        router = LabRouter(cloud, address="127.0.0.1", port=80, password_port=8080)
        if agent != UNANSWERED:
            namespace.call(router.start)
        resolver = namespace.call(NameServer)
        machine = lab.Machine(
            lab.Template(template.disk, "raw", template.kernel, template.initrd, line),
            directory,
            uuid=cloud.instance_id,
            devices=["-netdev", lab.user_network(), *lab.nic()],
            processor=steady(),
            life=DEADLINE,
            enter=namespace.command,
        )
        try:
            with lab.killed_at_end(machine):
                machine.start("-serial", f"file:{directory / 'report'}")
                machine.wait_off(DEADLINE)
        finally:
            router.stop()
            resolver.close()
        raw = (directory / "report").read_bytes()
        if END not in raw:
            raise RuntimeError(f"{agent}: no report from the guest\n{machine.console()}")
        report: Dict[str, Any] = json.loads(raw.split(END)[0])
        report["agent"] = agent
        report["requests"] = len(router.requests)
        report["acknowledged"] = len(router.acknowledged)
    if not report["done"]:
        raise RuntimeError(f"{agent}: keys and password were not set: {report}")
    os.unlink(machine.disk)
    return report


def _kind(agent: str) -> str:
    return agent.split(",", maxsplit=1)[0]


def _median(reports: List[Dict[str, Any]]) -> Dict[str, Any]:
    def of(values: List[Any]) -> Any:
        return None if None in values else round(statistics.median(values), 3)

    row = {key: of([one[key] for one in reports]) for key in ("cpu_s", "lease_s", "requests", *BOOT)}
    row["state"] = " ".join(sorted({one["state"] for one in reports}))
    if _kind(reports[0]["agent"]) != "none" and reports[0]["agent"] != UNANSWERED:
        ready = [max(one["keys_s"], one["password_s"]) for one in reports]
        row["ready_s"] = of(ready)
        row["after_lease_s"] = of([when - one["lease_s"] for when, one in zip(ready, reports)])
    row["rss_mib"] = round(statistics.median(one["resident"]["rss_kib"] for one in reports) / 1024, 1)
    row["pss_mib"] = round(statistics.median(one["resident"]["pss_kib"] for one in reports) / 1024, 1)
    return row


BOOT = {
    "sshd_s": "sshd",
    "login_s": "login prompt",
    "up_s": "multi-user.target",
    "running_s": "`is-system-running` = running",
}
COLUMNS = {
    "cpu_s": "CPU of its units, s",
    "ready_s": "kernel to keys and password, s",
    "after_lease_s": "lease to keys and password, s",
    **{key: f"kernel to {what}, s" for key, what in BOOT.items()},
    "rss_mib": "resident after boot, MiB",
    "requests": "requests to the router",
    "state": "the system is",
}


def table(result: Dict[str, Any]) -> List[str]:
    """Lines of Markdown, and how csagent compares."""
    lines = ["| first boot, medians of " + f"{result['runs']} | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|---|" + "--:|" * len(COLUMNS))
    rows = result["agents"]
    for agent, row in rows.items():
        cells = ["" if row.get(key) is None else str(row[key]) for key in COLUMNS]
        lines.append(f"| {agent} | " + " | ".join(cells) + " |")
    ours, theirs = rows["csagent"], rows["cloud-init"]
    beside_it = rows[BUSY["csagent"]]["after_lease_s"] / ours["after_lease_s"]
    lines += [
        "",
        f"CPU, cloud-init over csagent: {theirs['cpu_s'] / ours['cpu_s']:.1f} (at least 10 is promised)",
        "lease to keys and password, cloud-init over csagent: "
        f"{theirs['after_lease_s'] / ours['after_lease_s']:.1f} (at least 5)",
        *(
            f"{what}, against no agent at all: {ours[key] - rows['none'][key]:+.2f} s; where nobody answers "
            f"{rows[UNANSWERED][key] - rows['none'][key]:+.2f} s (0 within noise)"
            for key, what in BOOT.items()
        ),
        *(
            f"beside a service that takes all, {what}, csagent against no agent: "
            f"{rows[BUSY['csagent']][key] - rows[BUSY['none']][key]:+.2f} s (0 within noise)"
            for key, what in BOOT.items()
        ),
        f"beside it, lease to keys and password: {beside_it:.1f} times as long (at most 3 is promised)",
        f"resident: {ours['rss_mib']} MiB (at most 12); {ours['pss_mib']} with shared pages in parts",
        "sshd: ssh.service is active. Every boot is a first one, of an image that has never run: no warm-up.",
    ]
    return lines
