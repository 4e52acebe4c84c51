"""Four documents, carried out by csagent and by cloud-init in the same Debian 12 tree, in turn.

An overlay of the tree and namespaces for each run, without a network. csagent's side is a pass from a config
drive and both stages, as its units run them; cloud-init's are its four stages with the same document as a
seed of NoCloud, which costs less than CloudStack's. Processor time counts whatever they wait for: apt-get,
useradd, the scripts.
"""

from __future__ import annotations

import gzip
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support import user_data_tree  # noqa: E402
from support.user_data_tree import CLOUD_INIT, INSTANCE, METADATA, Scratch  # noqa: E402

from csagent.lab import drive  # noqa: E402
from csagent.lab.cloud import Cloud  # noqa: E402

FIXTURES = HERE.parent / "fixtures/user-data"
TARGET = 0.5  # of cloud-init's

SCRIPT = """\
#!/bin/bash
set -eu
hostname > /etc/motd
mkdir -p /srv/app
echo "listen: 8080" > /srv/app/config.yaml
chown -R www-data: /srv/app
"""
ACCOUNTS = """\
#cloud-config
hostname: web-01
users:
  - default
  - name: deploy
    groups: [www-data]
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    ssh_authorized_keys:
      - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVYQU1QTEVFWEFNUExFRVhBTVBMRUVYQU1QTEVFWEFN me@example
package_update: true
packages: [hello, tree]
write_files:
  - path: /etc/app/config.yaml
    content: "listen: 8080"
    permissions: '0640'
    owner: root:www-data
runcmd:
  - hello >> /var/tmp/order
final_message: the system is up after $UPTIME seconds
"""

# What nobody has asked for is left out: other data sources, new host keys, a locale, apt's sources; and root
# is the account, as csagent's default is.
CONFIGURED = """\
cat >/etc/cloud/cloud.cfg.d/99-bench.cfg <<END
datasource_list: [NoCloud]
ssh_deletekeys: false
ssh_genkeytypes: []
disable_root: false
locale: false
apt_preserve_sources_list: true
system_info: {default_user: {name: root, lock_passwd: false}}
END
"""
INSTALL = """\
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
cp -r /opt/csagent/csagent /usr/lib/python3/dist-packages/
find /usr/lib/python3/dist-packages/csagent -name __pycache__ -prune -exec rm -r {} +
python3 -m compileall -q /usr/lib/python3/dist-packages/csagent
"""
# What is measured is a shell of its own: `times` is about what it has waited for.
MEASURE = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
cd /
date +%s%N >/run/began
sh /run/in/measured.sh
code=$?
date +%s%N >/run/ended
exit $code
"""
OURS = """\
csagent() { python3 -I -c 'from csagent.cli.main import entry; entry()' "$@"; }
csagent --quiet apply --source drive --drive /run/in/drive && \\
    csagent --quiet user-data run --stage early && csagent --quiet user-data run --stage final
code=$?
times >/run/times
exit $code
"""
THEIRS = """\
for stage in "init --local" init "modules --mode=config" "modules --mode=final"; do
    cloud-init $stage </dev/null >/dev/null 2>&1 || { grep FAIL /var/log/cloud-init.log; exit 1; }
done
times >/run/times
"""
AGENTS = ("csagent", "cloud-init")


class Cost(NamedTuple):
    """What one boot's user-data took, in seconds."""

    wall: float
    cpu: float


def documents() -> Dict[str, bytes]:
    """By name: a script, a cluster node's of either kind, and a cloud-config of a web server's kind."""
    worker = (FIXTURES / "26-cluster-worker/user-data").read_bytes().replace(b"sleep 1;", b"")
    cluster = (FIXTURES / "21-jinja-cluster-node/user-data").read_bytes()
    return {
        "script": SCRIPT.encode(),
        "Cluster API node (gzip, jinja)": gzip.compress(cluster),
        "CloudStack Kubernetes worker": worker,
        "accounts, packages, files, message": ACCOUNTS.encode(),
    }


def user_data(runs: int) -> Dict[str, Any]:
    """Carry each out so often, in turn; medians, and how many times cloud-init's csagent takes."""
    scratch = Path(tempfile.mkdtemp(prefix="csagent-bench-"))
    found: Dict[str, Dict[str, List[Cost]]] = {}
    try:
        installed = Scratch(user_data_tree.tree(), scratch / "installed")
        done = installed.run(INSTALL, {})
        if done.returncode != 0:
            raise RuntimeError(f"csagent could not be put into the tree: {done.stderr.decode()[-2000:]}")
        base = Path(f"{installed.directory / 'upper'}:{installed.base}")  # as overlayfs has them
        for number in range(runs + 1):
            for name, document in documents().items():
                costs = found.setdefault(name, {agent: [] for agent in AGENTS})
                for agent in AGENTS:
                    cost = _run(base, scratch / "run", agent, name, document)
                    if number:  # the round before warms up
                        costs[agent].append(cost)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {"runs": runs, "documents": {name: _row(costs) for name, costs in found.items()}}


def _run(base: Path, directory: Path, agent: str, name: str, document: bytes) -> Cost:
    scratch = Scratch(base, directory)
    try:
        files = {"metadata.yaml": METADATA.encode(), "user-data": document}
        if agent == "csagent":
            cloud = Cloud(INSTANCE, "vm01", password=None, user_data=document)
            for path, content in drive.files_for(cloud).items():
                target = directory / "in/drive" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            done = scratch.run(MEASURE, {**files, "measured.sh": OURS.encode()})
        else:
            prepared = CLOUD_INIT.split("boot() {")[0] + CONFIGURED
            prepared += "cp /run/in/user-data /var/lib/cloud/seed/nocloud/user-data\n"
            prepared += "cp /run/in/metadata.yaml /var/lib/cloud/seed/nocloud/meta-data\n"
            done = scratch.run(prepared + MEASURE, {**files, "measured.sh": THEIRS.encode()})
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode("utf-8", "replace")[-3000:]
            raise RuntimeError(f"{agent}, {name}: ended with {done.returncode}\n{said}")
        wall = (int(scratch.told("ended")) - int(scratch.told("began"))) / 1e9
        return Cost(wall, _seconds(scratch.told("times")))
    finally:
        scratch.close()


def _seconds(times: str) -> float:
    """User and system time of a shell and its children, as the builtin `times` prints them."""
    return sum(60 * int(minutes) + float(rest) for minutes, rest in re.findall(r"(\d+)m([\d.]+)s", times))


def _row(costs: Dict[str, List[Cost]]) -> Dict[str, Any]:
    row: Dict[str, Any] = {
        agent: {
            "wall_s": round(statistics.median(one.wall for one in each), 2),
            "cpu_s": round(statistics.median(one.cpu for one in each), 2),
        }
        for agent, each in costs.items()
    }
    ours, theirs = (row[agent] for agent in AGENTS)
    return {**row, **{f"x_{key[:-2]}": round(ours[key] / theirs[key], 2) for key in ("wall_s", "cpu_s")}}


def table(result: Dict[str, Any]) -> List[str]:
    """Lines of Markdown, and whether the target is met."""
    heads = [f"{agent} {what}" for what in ("wall, s", "CPU, s") for agent in AGENTS]
    lines = [
        f"| user-data, medians of {result['runs']} | {' | '.join(heads)} | x wall | x CPU |",
        "|---|" + "--:|" * (len(heads) + 2),
    ]
    for name, row in result["documents"].items():
        figures = [row[agent][key] for key in ("wall_s", "cpu_s") for agent in AGENTS]
        lines.append(f"| {name} | {' | '.join(map(str, [*figures, row['x_wall'], row['x_cpu']]))} |")
    worst = {key: max(row[f"x_{key}"] for row in result["documents"].values()) for key in ("wall", "cpu")}
    lines += [
        "",
        f"of cloud-init's, at most: wall {worst['wall']}, CPU {worst['cpu']} (at most {TARGET})",
        "csagent: a pass from a drive and both stages. cloud-init: its four stages, NoCloud, no host keys.",
    ]
    return lines
