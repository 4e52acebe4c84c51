"""Who else on this machine sets a host name, SSH keys or a password: cloud-init, old guest scripts, agents.

Local files only. `cloud_init` is what a pass asks, where `/usr/bin/cloud-init` exists; `find` is for doctor
and seal, which also want the scripts. What each of them owns is said in `csagent.other_agents.ownership`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

from csagent.other_agents import cloud_config
from csagent.system.systemd import is_masked

if TYPE_CHECKING:
    from csagent.other_agents.guest_scripts import Agent, Script
    from csagent.system.seams import System

PROGRAM = "/usr/bin/cloud-init"
OUR_PROGRAM = "csagent.cli.cloud_init_compat"  # what csagent-cloud-init-compat has there imports it
OURS = ("CloudStack", "ConfigDrive")
RUN = "/run/cloud-init"
ETC = "/etc/cloud"
STATUS = RUN + "/status.json"
FOUND = RUN + "/cloud.cfg"  # ds-identify's result
INSTANCES = "/var/lib/cloud/instances"
RAN = "/var/lib/cloud/data/instance-id"
USER_DATA = "/var/lib/cloud/instance/cloud-config.txt"  # what is left of the user-data's cloud-config
# Without any of these no module of the network stage runs, and no CloudStack source is asked.
UNITS = ("cloud-init.target", "cloud-init-main.service", "cloud-init-network.service", "cloud-init.service")
NETWORK_STAGES = ("cloud-init-network.service", "cloud-init.service")  # since 24.3, and before
ALL_UNITS = (
    *UNITS,
    *("cloud-init-local.service", "cloud-init-hotplugd.service", "cloud-init-hotplugd.socket"),
    *("cloud-config.service", "cloud-config.target", "cloud-final.service"),
)
UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system")
UNIT_FILES = ("/usr/lib/systemd/system", "/lib/systemd/system")
FIRST = "csagent-ready.target"
WGETS = ("/usr/bin/wget", "/bin/wget", "/usr/local/bin/wget")
PROGRAM_LIMIT = 4096  # cloud-init's own has 200 bytes, ours 300
LISTS = ("cloud_init_modules", "cloud_config_modules", "cloud_final_modules")

_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z", re.ASCII)
_SOURCE = re.compile(r"(?:DataSource)?([A-Za-z0-9]{1,32}?)(?:Local)?\b", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z", re.ASCII)


class CloudInit(NamedTuple):
    """An installed cloud-init, and what it does here.

    `sources` are the data sources that it uses, or those that it will try; empty where that is not known,
    or where it found none. `modules` and `always` have cloud-init's names with `_` for `-`.
    """

    enabled: bool = True
    why: str = ""  # what disables it, or says that it is enabled
    sources: Tuple[str, ...] = ()
    said_by: str = ""  # the file that names them
    answered: bool = False  # they have been asked in this boot
    preserve_hostname: bool = False
    modules: Tuple[str, ...] = ()
    always: Tuple[str, ...] = ()  # those that run at every boot by configuration
    takes_keys: bool = True  # allow_public_ssh_keys
    default_user: Optional[str] = None
    disable_root: bool = True
    wget: bool = False
    stage: str = NETWORK_STAGES[-1]  # the unit that asks the sources behind the network
    waits: bool = False  # that comes after our first pass
    ran: bool = False  # it has run on this disk
    touched_keys: bool = False  # its lines for keys of ours stand in the account's file

    @property
    def source(self) -> str:
        """Its data source, for a sentence."""
        return " or ".join(self.sources)

    @property
    def takes_part(self) -> bool:
        """Whether it certainly works here with CloudStack's data."""
        return self.enabled and bool(self.sources) and all(one in OURS for one in self.sources)

    @property
    def manages_hostname(self) -> bool:
        """Whether it sets CloudStack's host name, which it then does at every boot."""
        listed = "update_hostname" in self.modules or "set_hostname" in self.modules
        return self.takes_part and listed and not self.preserve_hostname

    @property
    def writes_keys(self) -> bool:
        """Whether it writes, or may have written, CloudStack's keys, once per instance."""
        elsewhere = self.answered and any(one not in OURS for one in self.sources)
        return self.takes_keys and "ssh" in self.modules and (self.enabled or self.ran) and not elsewhere

    @property
    def takes_passwords(self) -> bool:
        """Whether it may take a password from the server before us (field/cloudstack#4.6 and #9.7).

        Its CloudStack source asks at every boot, with wget, and acknowledges what it gets; no setting of it
        says otherwise. A config drive cannot be told, so that nothing is lost there.
        """
        return self.takes_part and "CloudStack" in self.sources and self.wget and not self.waits


def has_run_user_data(system: "System", instance_id: str) -> bool:
    """Whether a cloud-init that is gone or disabled now has run this instance's user-data on this disk.

    It makes a file for each module that it has begun, and keeps them by CloudStack's instance id.
    """
    if not _INSTANCE.match(instance_id):
        return False
    return any(system.tree.glob(f"{INSTANCES}/{instance_id}/sem/config_*"))


class Rivals(NamedTuple):
    """All of them. `markers` are files in which old scripts remember a password's MD5."""

    cloud_init: Optional[CloudInit] = None
    scripts: Tuple[Script, ...] = ()
    agents: Tuple[Agent, ...] = ()
    markers: Tuple[str, ...] = ()


def find(system: "System") -> Rivals:
    """Everybody else who does csagent's work on this machine, or in this tree."""
    from csagent.other_agents import guest_scripts

    return Rivals(
        cloud_init=cloud_init(system),
        scripts=guest_scripts.scripts(system),
        agents=guest_scripts.agents(system),
        markers=guest_scripts.markers(system),
    )


def is_installed(system: "System") -> bool:
    """Whether its program is there, and not that of csagent-cloud-init-compat, which does nothing itself."""
    if not system.tree.exists(PROGRAM):
        return False
    return OUR_PROGRAM not in (system.tree.read_text(PROGRAM, PROGRAM_LIMIT) or "")


def cloud_init(system: "System") -> Optional[CloudInit]:
    """What the installed cloud-init does here; None where there is none."""
    if not is_installed(system):
        return None
    said = _configuration(system)
    enabled, why = _enabled(system, said)
    sources, said_by, answered = _sources(system, said)
    entries = [words for key in LISTS for words in cloud_config.entries(said, key)]
    return CloudInit(
        enabled=enabled,
        why=why,
        sources=sources,
        said_by=said_by,
        answered=answered,
        preserve_hostname=cloud_config.flag(said, "preserve_hostname", False),
        modules=tuple(words[0].replace("-", "_") for words in entries),
        always=tuple(words[0].replace("-", "_") for words in entries if words[1:2] == ("always",)),
        takes_keys=cloud_config.flag(said, "allow_public_ssh_keys", True),
        default_user=_default_user(said),
        disable_root=cloud_config.flag(said, "disable_root", True),
        wget=any(system.tree.exists(path) for path in WGETS),
        stage=_stage(system),
        waits=_waits(system),
        ran=system.tree.exists(RAN),
    )


def _configuration(system: "System") -> cloud_config.Configuration:
    """What cloud.cfg, its drop-ins in order, and the user-data of the last boot say; the last word counts."""
    paths = [ETC + "/cloud.cfg", *system.tree.glob(ETC + "/cloud.cfg.d/*.cfg"), USER_DATA]
    said: cloud_config.Configuration = {}
    for path in paths:
        said = cloud_config.merge(said, cloud_config.load(system.tree.read_text(path)))
    return said


def _enabled(system: "System", said: cloud_config.Configuration) -> Tuple[bool, str]:
    """Whether it runs, and what says so."""
    if system.tree.exists(ETC + "/cloud-init.disabled"):
        return False, ETC + "/cloud-init.disabled"
    if "cloud-init=disabled" in (system.tree.read_text("/proc/cmdline", 65536) or "").split():
        return False, "cloud-init=disabled on the kernel's command line"
    for unit in UNITS:
        if any(is_masked(system.tree, f"{directory}/{unit}") for directory in UNIT_DIRECTORIES):
            return False, f"{unit} is masked"
    if system.tree.exists(RUN + "/enabled"):
        return True, RUN + "/enabled"
    if system.tree.exists(RUN + "/disabled"):
        return False, f"{RUN}/disabled: its ds-identify found no data source"
    policy = cloud_config.load(system.tree.read_text(ETC + "/ds-identify.cfg")).get("policy")
    if str(policy).split(",")[0] == "disabled":
        return False, ETC + "/ds-identify.cfg"
    return True, "nothing disables it"


def _sources(system: "System", said: cloud_config.Configuration) -> Tuple[Tuple[str, ...], str, bool]:
    """The data sources, the file that names them, and whether they have been asked.

    In this order: what it uses in this boot, what its ds-identify found, and what is configured, which is
    followed where it names one only.
    """
    found = _status(system)
    if found is not None:
        return found, STATUS, True
    written = cloud_config.load(system.tree.read_text(FOUND))
    given = cloud_config.load(system.tree.read_text(ETC + "/ds-identify.cfg"))
    for path, listed in (
        (FOUND, cloud_config.entries(written, "datasource_list")),
        (ETC + "/ds-identify.cfg", cloud_config.entries(given, "datasource")),
        (ETC + "/cloud.cfg", cloud_config.entries(said, "datasource_list")),
    ):
        names = _names([words[0] for words in listed])
        if names:
            return names, path, False
    return (), "", False


def _names(listed: List[str]) -> Tuple[str, ...]:
    matches = [_SOURCE.match(name) for name in listed]
    return tuple(match.group(1) for match in matches if match and match.group(1) != "None")


def _status(system: "System") -> Optional[Tuple[str, ...]]:
    """The source that this boot's cloud-init uses, () where it found none, None where it has not said yet."""
    text = system.tree.read_text(STATUS)
    if text is None:
        return None
    from csagent.system import json_limits

    try:
        document = json_limits.loads(text.encode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    stages = document.get("v1") if isinstance(document, dict) else None
    if not isinstance(stages, dict):
        return None
    source, network = stages.get("datasource"), stages.get("init")
    if isinstance(source, str) and source:
        return _names([source])
    over = isinstance(network, dict) and bool(network.get("finished"))
    return () if over else None


def _default_user(said: cloud_config.Configuration) -> Optional[str]:
    """The account that gets keys and password: the distribution's, unless `users` leaves it out."""
    if "users" in said and ("default",) not in cloud_config.entries(said, "users"):
        return None
    name = cloud_config.default_user(said)
    return name if name and _ACCOUNT.match(name) else None


def _stage(system: "System") -> str:
    for unit in NETWORK_STAGES:
        if any(system.tree.exists(f"{directory}/{unit}") for directory in UNIT_FILES):
            return unit
    return NETWORK_STAGES[-1]


def _waits(system: "System") -> bool:
    """Whether a drop-in has its network stage wait for our first pass (packaging/cloud-init)."""
    drop_ins = [
        path
        for directory in (*UNIT_DIRECTORIES, *UNIT_FILES)
        for unit in NETWORK_STAGES
        for path in system.tree.glob(f"{directory}/{unit}.d/*.conf")
    ]
    return any(
        line.startswith("After=") and FIRST in line.split("=", 1)[1].split()
        for path in drop_ins
        for line in (system.tree.read_text(path) or "").split("\n")
    )
