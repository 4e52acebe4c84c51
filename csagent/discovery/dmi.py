"""What DMI says about the hypervisor (field/cloudstack#8).

Absence proves nothing: since 4.20 an operator may rename both strings, and aarch64 guests have none.
"""

from __future__ import annotations

import re
from typing import Optional

from csagent.model import Platform
from csagent.system.seams import System

DMI = "/sys/class/dmi/id/"
VENDOR = "Apache Software Foundation"

# (vendor, beginning of the product) that only another cloud writes. QEMU, VMware and Xen are not here:
# CloudStack's guests on those say so too.
OTHERS = (
    ("Amazon EC2", ""),
    ("Google", "Google Compute Engine"),
    ("DigitalOcean", ""),
    ("Hetzner", ""),
    ("Scaleway", ""),
    ("Vultr", ""),
    ("Alibaba Cloud", ""),
    ("OpenStack Foundation", "OpenStack"),
)


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NO_UUID = ({"0", "-"}, {"f", "-"})  # where firmware has none, or none yet (DSP0134, 7.2.1)


def read_dmi(system: System) -> Platform:
    """Read vendor, product and UUID; the UUID (lower case) only root may read."""
    vendor = _value(system, "sys_vendor")
    product = _value(system, "product_name")
    uuid = (_value(system, "product_uuid") or "").lower()
    return Platform(
        vendor=vendor,
        product=product,
        uuid=uuid if UUID.fullmatch(uuid) and set(uuid) not in NO_UUID else None,
        cloudstack=judge(vendor, product),
    )


def judge(vendor: Optional[str], product: Optional[str]) -> Optional[bool]:
    """True for CloudStack's own strings, False for those of another cloud, else None: it may still be."""
    if (product or "").startswith("CloudStack") or vendor == VENDOR:
        return True
    for name, beginning in OTHERS:
        if vendor == name and (product or "").startswith(beginning):
            return False
    return None


def _value(system: System, name: str) -> Optional[str]:
    text = system.tree.read_text(DMI + name, 256)
    shown = "".join(char for char in (text or "").strip() if char.isprintable())
    return shown[:128] or None
