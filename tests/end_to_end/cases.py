"""The cases: a document, what the virtual machine around it has, and what is to come of it."""

from __future__ import annotations

import gzip
import uuid
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Tuple

from support.samples import make_key
from support.vm_cloud import PASSWORD

from csagent.lab.cloud import Cloud
from csagent.lab.network_data import BY_DRIVE, CloudNetwork, CloudNic
from csagent.lab.vm.machine import MAC

DOCUMENTS = Path(__file__).resolve().parent / "documents"
ROUTER, DRIVE = "router", "drive"
SECOND_MAC = "02:00:4c:9f:00:16"
GATEWAYS = ("10.7.0.1", "10.8.0.1")
DNS = "10.7.0.2"
LARGER, EMPTY = 4 << 30, 1 << 30  # bytes: of root's disk, and of a data disk


class Case(NamedTuple):
    """One machine of an offering, and its user-data."""

    name: str  # a letter, and a word where a letter has two documents
    title: str
    document: str  # a file of documents/
    expected: Mapping[str, str]  # facts, as facts.py names them, of csagent's machine at both boots
    sources: Tuple[str, ...] = (ROUTER, DRIVE)
    wrap: Callable[[bytes], bytes] = bytes
    binaries: bool = False  # an ISO comes into the first CD drive after the start, as CloudStack does it
    network: CloudNetwork = CloudNetwork()  # with NICs: no DHCP, two segments
    larger: bool = False  # root's disk than the template, and an empty data disk

    @property
    def user_data(self) -> bytes:
        """As CloudStack has it."""
        return self.wrap((DOCUMENTS / self.document).read_bytes())

    @property
    def hostname(self) -> str:
        """In CloudStack."""
        return f"vm-{self.name}"

    def cloud(self, release: int, agent: str, source: str) -> Cloud:
        """What CloudStack knows of the machine; the same at each run."""
        name = f"csagent-end-to-end-{release}-{agent}-{self.name}-{source}"
        return Cloud(
            instance_id=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
            hostname=self.hostname,
            ssh_keys=(make_key(1, "alice@example"), make_key(2, "bob@example")),
            password=PASSWORD,
            user_data=self.user_data,
            network=self.network,
        )


def _compressed(document: bytes) -> bytes:
    return gzip.compress(document, mtime=0)


def _in_common(case: str, order: List[str], *, account: bool = True) -> Dict[str, str]:
    """`account`: whether the document has the distribution's own; `users` without `default` has not."""
    return {
        "outcome": "done",
        "ran, in this order": "; ".join(order),
        "host name, kernel": f"vm-{case}",
        "password of debian": "CloudStack's" if account else "absent",
        "keys of debian": "alice@example, bob@example" if account else "absent",
        "failed units": "none",
    }


CASES = (
    Case(
        "a",
        "a script, as Terraform makes them",
        "script",
        {
            **_in_common(
                "a",
                ["script as root in /, umask 0022, on vm-a (1)", "script done, application active (1)"],
            ),
            "package hello": "2.10-3",
            "app.service": "active",
            "file /etc/app/config.yaml": "0640 root:app "
            "'listen: 0.0.0.0:8080\\nnode: vm-a\\nenvironment: staging\\n'",
        },
    ),
    Case(
        "b-cluster-api",
        "a Kubernetes node of Cluster API: gzip, template, write_files, runcmd",
        "cluster-api",
        _in_common(
            "b-cluster-api",
            [
                "bootcmd (each boot)",
                "before vm-b-cluster-api (1)",
                "kubeadm join as root, node vm-b-cluster-api (1)",
                "after (1)",
            ],
            account=False,
        ),
        wrap=_compressed,
    ),
    Case(
        "b-cloudstack",
        "a node of CloudStack's own Kubernetes service, which waits for an ISO",
        "cloudstack-kubernetes",
        {
            **_in_common(
                "b-cloudstack",
                ["set up from setup-kube-system (1)", "k8s-worker join 10.1.1.20:6443 --token EXAMPLE (1)"],
                account=False,
            ),
            "file /home/cloud/success": "0644 root:root 'true\\n'",
        },
        binaries=True,
    ),
    Case(
        "c",
        "a cloud-config: users, packages, files, a message",
        "cloud-config",
        {
            **_in_common(
                "c",
                [
                    "bootcmd (each boot)",
                    "runcmd text in / as root (1)",
                    "runcmd list: hello (1)",
                ],
            ),
            "package hello": "2.10-3",
            "package csdemo": "1.0-1",
            "password of deploy": "the document's",
            "file /etc/app/config.yaml": "0640 root:www-data 'listen: 0.0.0.0:8080\\n'",
            "file /etc/app/encoded": "0600 root:root 'EXAMPLE\\n'",
            "file /etc/app/compressed": "0644 root:root 'EXAMPLE, compressed\\n'",
            "file /home/deploy/notes/readme": "0644 deploy:deploy 'for deploy\\n'",
            "message on the console": "yes",
        },
    ),
    Case(
        "d",
        "a network without DHCP: addresses from the drive, two NICs",
        "addresses",
        {
            **_in_common(
                "d",
                ["script has 10.7.0.21/24 (1)", "script has 10.8.0.21/24 (1)", "script on vm-d (1)"],
            ),
            "addresses of NIC 0": "10.7.0.21/24",
            "addresses of NIC 1": "10.8.0.21/24",
            "route default": "via 10.7.0.1, NIC 0; then via 10.8.0.1, NIC 1",
        },
        sources=(DRIVE,),
        network=CloudNetwork(
            (
                CloudNic(MAC, BY_DRIVE, ("10.7.0.21/24",), (GATEWAYS[0],)),
                CloudNic(SECOND_MAC, BY_DRIVE, ("10.8.0.21/24",), (GATEWAYS[1],)),
            ),
            (DNS,),
        ),
    ),
    Case(
        "e",
        "a larger root disk and an empty data disk: growpart, disk_setup, fs_setup, mounts",
        "disks",
        {
            **_in_common("e", ["data on ext4 (1)"]),
            "size of /": "3.9 GiB",
            "size of /srv/data": "1.0 GiB",
            "file /srv/data/kept": "0644 root:root 'kept\\n'",
        },
        larger=True,
    ),
)
