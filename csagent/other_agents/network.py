"""Whether cloud-init applies network_data.json of a config drive here, and so has the network.

See field/network-data#N24.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional

from csagent.other_agents import cloud_init
from csagent.other_agents.cloud_init import ETC, CloudInit

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.seams import System

DRIVE = "ConfigDrive"
_TURNED_OFF = re.compile(r"^network:\s*(\{\s*config:\s*disabled\s*\}|\n\s+config:\s*disabled)", re.MULTILINE)


def left_to_cloud_init(system: "System", settings: "Settings") -> Optional[str]:
    """Why all NICs are left to cloud-init; None where it is not there, or does not configure them.

    It applies the drive's document at an instance's first boot, and not again: its files stay.
    """
    if settings.cloud_init == "csagent":
        return None
    rival = cloud_init.cloud_init(system)
    if rival is None or not rival.takes_part or DRIVE not in rival.sources or _turned_off(system):
        return None
    return _reason(rival)


def _reason(rival: CloudInit) -> str:
    return (
        f"left to cloud-init ({rival.source}), which applies it once per instance: see the setting cloud_init"
    )


def _turned_off(system: "System") -> bool:
    """Whether its configuration says that it writes no network configuration."""
    paths = (ETC + "/cloud.cfg", *system.tree.glob(ETC + "/cloud.cfg.d/*.cfg"))
    return any(_TURNED_OFF.search(system.tree.read_text(path) or "") for path in paths)
