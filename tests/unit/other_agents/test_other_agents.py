"""Who else sets a host name, keys or a password: cloud-init, old guest scripts, other agents."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.replace_fields import replace
from support.samples import INSTANCE, make_key

from csagent import agent
from csagent.apply.authorized_keys import BEGIN, END, has_cloud_inits, merge
from csagent.daemon import pass_process
from csagent.decide import decide
from csagent.model import Observation, PasswordOffer
from csagent.other_agents import cloud_config, cloud_init, guest_scripts, ownership
from csagent.other_agents.cloud_init import CloudInit
from csagent.plan import Action, Leave, OtherOwner, SetHostname, WriteKeys
from csagent.settings import Settings
from csagent.sources.request import Options
from csagent.state.applied import Memory
from csagent.system.events import Files
from csagent.system.seams import System
from csagent.system.tree import Tree

TOP = Path(__file__).resolve().parents[3]

# The lines that matter of Debian's /etc/cloud/cloud.cfg. 20.4 (Debian 11), 22.4 (12) and 25.1 (13) differ in
# what is left out here only.
STOCK = """\
# The top level settings are used as module
users:
   - default

# If this is set, 'root' will not be able to ssh in
disable_root: true

preserve_hostname: false

apt:
   preserve_sources_list: true

# The modules that run in the 'init' stage
cloud_init_modules:
 - seed_random
 - set_hostname
 - update_hostname
 - users-groups
 - ssh

cloud_config_modules:
# Emit the cloud config ready event
 - ssh-import-id
 - set-passwords

cloud_final_modules:
 - scripts-user

system_info:
   # This will affect which distro class gets used
   distro: debian
   default_user:
     name: debian
     lock_passwd: True
     groups: [adm, audio]
   paths:
      cloud_dir: /var/lib/cloud/
"""
# What the ds-identify of each release wrote: for DMI's "CloudStack KVM Hypervisor", for a foreign product
# name, and for one data source that is configured.
FOUND = "datasource_list: [ CloudStack, None ]\n"
NOT_FOUND = "di_report:\n  datasource_list: [  ]\n  # reporting not found result. notfound=disabled.\n"
ALONE = "datasource_list: [ CloudStack ]\n"

Texts = Dict[str, Union[str, None]]


def put(root: Path, files: Texts) -> System:
    """A tree with these files; None makes a link to /dev/null."""
    for path, content in files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            file.symlink_to("/dev/null")
        else:
            file.write_text(content)
    return System.at(str(root))


def installed(root: Path, **more: Optional[str]) -> System:
    """A tree with Debian's cloud-init in it; `run`, `status`, `drop_in` are the usual files."""
    usual = {
        "run": "run/cloud-init/cloud.cfg",
        "status": "run/cloud-init/status.json",
        "enabled": "run/cloud-init/enabled",
        "drop_in": "etc/cloud/cloud.cfg.d/90-site.cfg",
        "wget": "usr/bin/wget",
    }
    files: Texts = {"usr/bin/cloud-init": "", "etc/cloud/cloud.cfg": STOCK}
    files.update({usual.get(name, name): text for name, text in more.items()})
    return put(root, files)


def look(system: System) -> CloudInit:
    found = cloud_init.cloud_init(system)
    assert found is not None
    return found


# --- cloud-init ---


def test_no_cloud_init_costs_one_look(tmp_path: Path) -> None:
    """Where it is not installed a pass looks for one file and imports nothing of this."""
    code = (
        "import sys; from csagent import agent; from csagent.system.seams import System\n"
        "from csagent.state.applied import Memory; from csagent.settings import Settings\n"
        "system = System.at(sys.argv[1]); looks = []\n"
        "real = system.tree.exists; system.tree.exists = lambda path: looks.append(path) or real(path)\n"
        "before = set(sys.modules)\n"
        "from csagent.model import Observation; import csagent.decide\n"
        "before = set(sys.modules)\n"
        "agent._decide(system, Observation(), Memory(), Settings(), force_password=False)\n"
        "print(looks, [one for one in set(sys.modules) - before if 'other_agents' in one])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "['/usr/bin/cloud-init'] []\n"
    assert cloud_init.cloud_init(System.at(str(tmp_path))) is None


def test_the_program_of_the_compat_package_is_no_cloud_init(tmp_path: Path) -> None:
    """Whatever else of an earlier cloud-init is there: csagent does all of it, and watches nothing for it."""
    script = (TOP / "packaging/cloud-init-compat/cloud-init").read_text()
    system = installed(tmp_path, enabled="", run=FOUND, **{"usr/bin/cloud-init": script})
    assert cloud_init.cloud_init(system) is None
    assert states(system) == {"cloud-init is not installed": "ok"}
    other = agent._other_owner(system, Memory(), Settings())
    assert other == OtherOwner() and not cloud_init.is_installed(system)

    live = system._replace(tree=Live(str(tmp_path)))
    assert pass_process._world(live, Settings(), Options(), 10.0)["cloud_init"] is None
    (tmp_path / "usr/bin/cloud-init").write_text("")
    assert pass_process._world(live, Settings(), Options(), 10.0)["cloud_init"] == agent.CLOUD_INIT_ENDS


class Live(Tree):
    """A tree that passes for the running system's."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.live = True


def test_stock_debian_on_cloudstack(tmp_path: Path) -> None:
    """A stock image under CloudStack's DMI: enabled, its source, its modules, its account."""
    found = look(installed(tmp_path, enabled="", run=FOUND, wget=""))
    assert (found.enabled, found.sources, found.said_by) == (True, ("CloudStack",), cloud_init.FOUND)
    assert found.takes_part and found.manages_hostname and found.writes_keys and found.takes_passwords
    assert (found.default_user, found.disable_root, found.preserve_hostname) == ("debian", True, False)
    assert {"set_hostname", "users_groups", "set_passwords"} <= set(found.modules)
    assert found.always == ()


def test_stock_debian_elsewhere(tmp_path: Path) -> None:
    """ds-identify found nothing: disabled, and the list in its report is none."""
    files = {"run/cloud-init/disabled": ""}
    found = look(installed(tmp_path, run=NOT_FOUND, **files))
    assert not found.enabled and found.sources == () and not found.takes_part


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"etc/cloud/cloud-init.disabled": ""}, "cloud-init.disabled"),
        ({"proc/cmdline": "ro quiet cloud-init=disabled\n"}, "command line"),
        ({"etc/systemd/system/cloud-init.target": None}, "masked"),
        ({"etc/systemd/system/cloud-init-network.service": None}, "masked"),
        ({"run/systemd/system/cloud-init.service": ""}, "masked"),
    ],
)
def test_disabled_by_hand(tmp_path: Path, files: Texts, word: str) -> None:
    """Each way to disable it counts, whatever its generator has said at boot."""
    found = look(put(tmp_path, {"usr/bin/cloud-init": "", "run/cloud-init/enabled": "", **files}))
    assert not found.enabled and word in found.why


def test_policy_of_ds_identify(tmp_path: Path) -> None:
    """In an image that has not booted, ds-identify.cfg says whether it will run, and with which source."""
    policy = {"etc/cloud/ds-identify.cfg": "policy: disabled\n"}
    assert not look(installed(tmp_path / "a", **policy)).enabled
    assert look(installed(tmp_path / "c", enabled="", **policy)).enabled  # it runs until the next boot
    found = look(installed(tmp_path / "b", **{"etc/cloud/ds-identify.cfg": "datasource: CloudStack\n"}))
    assert found.takes_part and found.said_by == "/etc/cloud/ds-identify.cfg"


def status(source: Optional[str], over: bool = False) -> str:
    """cloud-init's status.json."""
    stage = {"start": 4.0, "finished": 5.0 if over else None, "errors": []}
    return json.dumps({"v1": {"datasource": source, "stage": "init", "init": stage}})


@pytest.mark.parametrize(
    ("said", "sources", "answered"),
    [
        (status("DataSourceCloudStack"), ("CloudStack",), True),
        (status("DataSourceConfigDrive [net,ver=2][source=/dev/sr1]"), ("ConfigDrive",), True),
        (status("DataSourceNone", True), (), True),
        (status("DataSourceNoCloud [seed=/dev/vdb][dsmode=net]"), ("NoCloud",), True),
        (status(None, True), (), True),
        (status(None), ("CloudStack",), False),
        ("{", ("CloudStack",), False),
        ('{"v1": []}', ("CloudStack",), False),
        ("[" * 100_000, ("CloudStack",), False),
    ],
)
def test_what_it_uses_counts_more_than_what_it_would(
    tmp_path: Path, said: str, sources: object, answered: bool
) -> None:
    """status.json of this boot, once it says something, before ds-identify's result."""
    found = look(installed(tmp_path, enabled="", run=FOUND, status=said))
    assert (found.sources, found.answered) == (sources, answered)


def test_whose_keys_it_writes(tmp_path: Path) -> None:
    """Keys of another source are not CloudStack's; of a cloud-init that is disabled by now they may be."""
    assert not look(installed(tmp_path / "a", enabled="", status=status("DataSourceNoCloud"))).writes_keys
    off = {"etc/cloud/cloud-init.disabled": ""}
    assert not look(installed(tmp_path / "b", **off)).writes_keys
    assert look(installed(tmp_path / "c", **off, **{"var/lib/cloud/data/instance-id": "x"})).writes_keys


def test_configured_sources(tmp_path: Path) -> None:
    """Before the first boot the configuration says it, where all that it names are CloudStack's."""
    assert look(installed(tmp_path / "a", drop_in=ALONE)).takes_part
    assert look(installed(tmp_path / "b", drop_in="datasource_list:\n- ConfigDrive\n- 'None'\n")).takes_part
    mixed = look(installed(tmp_path / "c", drop_in="datasource_list: ['CloudStack', Ec2]  # or EC2\n"))
    assert mixed.sources == ("CloudStack", "Ec2") and not mixed.takes_part
    assert look(installed(tmp_path / "d")).sources == ()


def test_the_last_word_counts(tmp_path: Path) -> None:
    """Drop-ins in order over cloud.cfg, the user-data over all; mappings are merged."""
    drop_in = 'preserve_hostname: "yes" # by hand\nsystem_info:\n  ssh_svcname: ssh\n'
    found = look(installed(tmp_path / "a", run=FOUND, drop_in=drop_in))
    assert found.preserve_hostname and not found.manages_hostname and found.default_user == "debian"
    user_data = {"var/lib/cloud/instance/cloud-config.txt": "#cloud-config\npreserve_hostname: false\n"}
    assert look(installed(tmp_path / "b", run=FOUND, drop_in=drop_in, **user_data)).manages_hostname


def test_modules_in_all_spellings(tmp_path: Path) -> None:
    """Flow lists over several lines, lists in lists, and CloudStack's documented `always`."""
    text = "cloud_init_modules: [ [ssh, always], 'update-hostname',\n  seed_random ]\n"
    text += "cloud_config_modules:\n- [set-passwords, always]\n- runcmd\n"
    found = look(installed(tmp_path, drop_in=text))
    assert found.modules == (
        "ssh",
        "update_hostname",
        "seed_random",
        "set_passwords",
        "runcmd",
        "scripts_user",
    )
    assert found.always == ("ssh", "set_passwords")


def test_accounts_in_all_spellings(tmp_path: Path) -> None:
    """The default account of a flow mapping, another one's drop-in, and none where `users` leaves it out."""
    one = look(installed(tmp_path / "a", drop_in="system_info:\n  default_user: {name: ops, sudo: x}\n"))
    assert one.default_user == "ops"
    assert look(installed(tmp_path / "b", drop_in="users:\n  - name: alice\n")).default_user is None
    assert look(installed(tmp_path / "c", drop_in="users: []\n")).default_user is None
    nameless = "system_info:\n  default_user:\n    gecos: x\n  paths:\n    name: y\n"
    assert look(installed(tmp_path / "d", drop_in=nameless)).default_user == "debian"


@given(st.text(alphabet="abc:-[]{},'\"# \t\nsystem_info default_user name", max_size=200))
def test_any_text_is_read(text: str) -> None:
    """Whatever stands in a configuration file, the reader comes to its end."""
    said = cloud_config.load(f"{text}\nsystem_info:\n{text}\ncloud_init_modules:\n{text}")
    cloud_config.default_user(said)
    for key in said:
        assert all(cloud_config.entries(said, key))
        assert cloud_config.flag(said, key, True) in (True, False)


# --- whose datum it is ---

ACTIVE = CloudInit(
    sources=("CloudStack",), modules=("update_hostname", "ssh"), default_user="debian", wget=True
)
ALL = {"hostname", "ssh_keys", "password"}


@pytest.mark.parametrize(
    ("rival", "setting", "left"),
    [
        (ACTIVE, "auto", {"hostname"}),
        (ACTIVE, "csagent", set()),
        (ACTIVE, "cloud-init", ALL),
        (replace(ACTIVE, sources=("ConfigDrive",)), "auto", {"hostname"}),
        (replace(ACTIVE, preserve_hostname=True), "auto", set()),
        (replace(ACTIVE, modules=("ssh",)), "auto", set()),
        (replace(ACTIVE, enabled=False), "cloud-init", set()),
        (replace(ACTIVE, sources=()), "cloud-init", set()),
        (replace(ACTIVE, sources=("CloudStack", "Ec2")), "cloud-init", set()),
        (replace(ACTIVE, sources=("NoCloud",)), "auto", set()),
    ],
)
def test_what_is_left_to_cloud_init(rival: CloudInit, setting: str, left: object) -> None:
    """Only where it certainly works with CloudStack's data; in doubt csagent does all."""
    reasons = ownership.left_to(rival, Settings(cloud_init=setting))
    assert set(reasons) == left
    assert all("cloud_init" in reason and "\n" not in reason for reason in reasons.values())


KEYS = (make_key(1),)
SEEN = Observation(hostname="web01", ssh_keys=KEYS, password=PasswordOffer("none", reason="none waits"))
MEMORY = Memory(instance_id=INSTANCE, salt=b"s" * 16)


def actions(rival: Optional[CloudInit], settings: Settings, memory: Memory = MEMORY) -> Dict[str, Action]:
    plan = decide(SEEN, memory, settings, other=ownership.other_owner(rival, settings))
    return {action.datum: action for action in plan.actions}


def test_the_plan_says_whose_it_is() -> None:
    """The host name is left with a reason, the keys are adopted, and the password's danger is named."""
    plan = actions(ACTIVE, Settings())
    assert isinstance(plan["hostname"], Leave) and plan["hostname"].state == "off"
    assert "cloud-init (CloudStack)" in plan["hostname"].reason
    assert isinstance(plan["ssh_keys"], WriteKeys) and plan["ssh_keys"].adopt
    assert "may have taken it" in plan["password"].reason
    quiet = actions(replace(ACTIVE, waits=True), Settings(cloud_init="csagent"))
    assert isinstance(quiet["hostname"], SetHostname) and quiet["password"].reason == "none waits"
    alone = actions(None, Settings())
    assert isinstance(alone["ssh_keys"], WriteKeys) and not alone["ssh_keys"].adopt


def test_the_setting_leaves_all_three() -> None:
    """Each of the three is off with the setting's name; what another setting turned off says that one."""
    plan = actions(ACTIVE, Settings(cloud_init="cloud-init", password=False))
    reasons = {datum: action.reason for datum, action in plan.items() if datum in ALL}
    assert all(isinstance(plan[datum], Leave) and plan[datum].state == "off" for datum in ALL)  # type: ignore[attr-defined]
    assert "setting cloud_init" in reasons["hostname"] and "setting cloud_init" in reasons["ssh_keys"]
    assert reasons["password"] == "left alone: the setting password is false"


def test_keys_that_cloud_init_wrote_over_are_written_again() -> None:
    """Unchanged keys are left, unless cloud-init's lines for them were seen in the file."""
    known = replace(MEMORY, ssh_keys=KEYS, ssh_user="root")
    assert isinstance(actions(ACTIVE, Settings(), known)["ssh_keys"], Leave)
    again = actions(replace(ACTIVE, touched_keys=True), Settings(), known)["ssh_keys"]
    assert isinstance(again, WriteKeys) and (again.keys, again.previous, again.adopt) == (KEYS, KEYS, True)


class Pretended(Tree):
    """The running system's tree, in which one file is said to be there, or not."""

    def __init__(self, there: bool) -> None:
        super().__init__("/")
        self.there = there

    def exists(self, path: str) -> bool:
        return self.there and path == agent.CLOUD_INIT


def test_the_daemon_looks_again_when_cloud_init_is_done(tmp_path: Path) -> None:
    """cloud-init's result is news to a daemon beside it, and to no other, whatever the sources are."""

    def watched(there: bool, **settings: Any) -> Any:
        system = System(tree=Pretended(there))
        return pass_process._world(system, Settings(**settings), Options(), 10.0)["cloud_init"]

    assert watched(True) == watched(True, sources=("drive",)) == agent.CLOUD_INIT_ENDS
    assert watched(False) is None
    data = tmp_path / "var/lib/cloud/data"
    data.mkdir(parents=True)
    files = Files([watched(True)], str(tmp_path))
    (data / "tmp1").write_text("{}")
    (data / "tmp1").rename(data / "status.json")
    assert not files.news()
    (data / "tmp2").write_text("{}")
    (data / "tmp2").rename(data / "result.json")  # as its write_json does
    assert files.news()
    files.close()


# --- the lines of authorized_keys ---

A, B, C = make_key(1, "a"), make_key(2, "b"), make_key(3, "c")


def closed(key: str, user: str = "debian") -> str:
    """The line that cloud-init (20.4 to 25.1) writes for root where disable_root is true."""
    says = f"""echo 'Please login as the user \\"{user}\\" rather than the user \\"root\\".'"""
    options = (
        f'no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command="{says};echo;sleep 10;exit 142"'
    )
    return f"{options} {key}"


def test_cloud_inits_lines_are_adopted() -> None:
    """Open and closed lines of our keys go where ours come; those of other keys stay."""
    text = f"{A}\n{closed(B)}\n{closed(C)}\n"
    assert merge(text, [A, B], adopt=True) == f"{closed(C)}\n{BEGIN}\n{A}\n{B}\n{END}\n"
    assert merge(text, [A, B]) == f"{text}{BEGIN}\n{A}\n{B}\n{END}\n"


def test_a_reset_revokes_what_cloud_init_wrote() -> None:
    """The former keys go also outside of our block, open or closed."""
    text = f"{closed(A)}\n{B}\n{BEGIN}\n{A}\n{B}\n{END}\n"
    assert merge(text, [C], previous=[A, B], adopt=True) == f"{BEGIN}\n{C}\n{END}\n"


def test_the_owners_own_lines_of_a_key_stay() -> None:
    """With options or a comment of his a line is the owner's, which cloud-init did not write."""
    kind, blob, _ = A.split()
    own = f'from="10.0.0.0/8" {A}\n{kind} {blob} me@laptop\n{kind} {blob}\n'
    assert merge(own, [A], adopt=True) == f"{own}{BEGIN}\n{A}\n{END}\n"


def test_cloud_inits_hand_in_our_block_is_seen() -> None:
    """It replaces lines in our block by closed ones; ours alone, or somebody else's, are no touch."""
    assert has_cloud_inits(f"{BEGIN}\n{closed(A)}\n{END}\n", [A])
    assert has_cloud_inits(f"{A}\n{BEGIN}\n{A}\n{END}\n", [A])
    assert not has_cloud_inits(f"{closed(B)}\n{BEGIN}\n{A}\n{END}\ngarbage\n", [A])


# --- scripts, markers, agents ---

SCRIPT = "#!/bin/bash\nwget -q -t 3 -T 20 -O - --header 'DomU_Request: send_my_password' $HOST:8080\n"


def test_an_init_script_that_is_started(tmp_path: Path) -> None:
    """As CloudStack's documentation has it: in /etc/init.d with links of the runlevels, under any name."""
    system = put(
        tmp_path,
        {
            "etc/init.d/cloud-set-guest-password": SCRIPT,
            "etc/init.d/vm-password": SCRIPT,
            "etc/init.d/ssh": "#!/bin/sh\n# cloud-set-guest-password comes before\n",
            "usr/sbin/update-rc.d": "",
        },
    )
    (tmp_path / "etc/rc2.d").mkdir()
    (tmp_path / "etc/rc2.d/S20vm-password").symlink_to("../init.d/vm-password")
    first, second = cloud_init.find(system).scripts
    assert (first.path, first.what, first.started_by) == (
        "/etc/init.d/vm-password",
        "password",
        "/etc/rc2.d/S20vm-password",
    )
    assert first.remove == ("rm /etc/init.d/vm-password", "update-rc.d -f vm-password remove")
    assert (second.path, second.started_by) == ("/etc/init.d/cloud-set-guest-password", "")


def test_the_same_script_by_two_paths(tmp_path: Path) -> None:
    """EL's /etc/init.d is a link to /etc/rc.d/init.d; chkconfig has the links."""
    system = put(tmp_path, {"etc/rc.d/init.d/cloud-set-guest-sshkey": "#!/bin/bash\n"})
    (tmp_path / "etc/init.d").symlink_to("rc.d/init.d")
    (tmp_path / "etc/rc.d/rc3.d").mkdir()
    (tmp_path / "etc/rc.d/rc3.d/S99cloud-set-guest-sshkey").symlink_to("../init.d/cloud-set-guest-sshkey")
    (script,) = cloud_init.find(system).scripts
    assert (script.what, script.started_by) == ("SSH keys", "/etc/rc.d/rc3.d/S99cloud-set-guest-sshkey")
    assert script.remove[0] == "chkconfig --del cloud-set-guest-sshkey"


def test_units_hooks_lines_and_what_they_call(tmp_path: Path) -> None:
    """Enabled units, hooks, rc.local and cron count as started, and so does the program that one names."""
    system = put(
        tmp_path,
        {
            "etc/systemd/system/cloud-set-guest-sshkey.service": "[Service]\nExecStart=/usr/local/bin/x\n",
            "etc/dhcp/dhclient-exit-hooks.d/password": SCRIPT,
            "etc/dhcp/dhclient-exit-hooks.d/rfc3442": "RUN=yes\n",
            "etc/network/if-up.d/no-x-bit": SCRIPT,
            "etc/rc.local": "#!/bin/sh\n/usr/local/bin/cloud-set-guest-password-configdrive\n",
            "usr/local/bin/cloud-set-guest-password-configdrive": SCRIPT,
            "usr/local/bin/cloud-set-guest-sshkey-configdrive": "#!/bin/sh\n",
            "etc/crontab": "@reboot root /opt/other\n",
        },
    )
    (tmp_path / "etc/rc.local").chmod(0o755)
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "cloud-set-guest-sshkey.service").symlink_to("/nowhere/cloud-set-guest-sshkey.service")
    found = {script.path.rsplit("/", 1)[1]: script for script in cloud_init.find(system).scripts}
    assert {name: script.started_by for name, script in found.items()} == {
        "cloud-set-guest-sshkey.service": f"/{wants.relative_to(tmp_path)}/cloud-set-guest-sshkey.service",
        "password": "dhclient",
        "no-x-bit": "",
        "rc.local": "rc.local",
        "cloud-set-guest-password-configdrive": "/etc/rc.local",
        "cloud-set-guest-sshkey-configdrive": "",
    }
    assert found["cloud-set-guest-sshkey.service"].what == "SSH keys"


CALLS = "if [ -x /opt/cloud-set-guest-password ]; then\n  /opt/cloud-set-guest-password\nfi\n"


@pytest.mark.parametrize(
    ("path", "text", "removed"),
    [
        ("/etc/rc.local", f"#!/bin/sh\n# DomU_Request\nmount /data\n{CALLS}", False),
        ("/etc/rc.local", f"mount /data\n{SCRIPT}", False),
        ("/etc/crontab", f"0 4 * * * root backup\n@reboot root {SCRIPT.splitlines()[1]}\n", False),
        ("/etc/cron.d/cloud-set-guest-password", "@reboot root /opt/cloud-set-guest-password\n", True),
        ("/etc/init.d/boot.local", f"mount /data\n{CALLS}", False),
        ("/etc/init.d/vm-password", SCRIPT, True),
        ("/etc/NetworkManager/dispatcher.d/10-local", f"ip route add 10.9.0.0/16 dev eth1\n{CALLS}", False),
        ("/etc/NetworkManager/dispatcher.d/10-password", SCRIPT, True),
        (
            "/etc/systemd/system/shop.service",
            "[Service]\nExecStartPre=/opt/cloud-set-guest-password\nExecStart=/opt/shop\n",
            False,
        ),
        (
            "/etc/systemd/system/vm.service",
            "[Service]\nType=oneshot\nExecStart=/opt/cloud-set-guest-password\n",
            True,
        ),
    ],
)
def test_only_a_file_that_is_a_script_is_removed(tmp_path: Path, path: str, text: str, removed: bool) -> None:
    """Of a file with other things in it the lines are shown: what belongs to them an editor takes out."""
    (script,) = cloud_init.find(put(tmp_path, {path[1:]: text})).scripts
    advice = "; ".join(script.remove)
    assert script.path == path and (f"rm {path}" in advice) == removed
    if not removed:
        command = advice.partition("these lines: ")[2].replace(path, f"{tmp_path}{path}")
        done = subprocess.run(["sh", "-ec", command], check=True, timeout=300, stdout=subprocess.PIPE)
        shown = [int(line.split(b":")[0]) for line in done.stdout.splitlines()]
        wanted = [
            number
            for number, line in enumerate(text.splitlines(), 1)
            if guest_scripts.CONTENT.search(line.encode())
        ]
        assert shown == wanted and "rm " not in command


def test_markers_and_agents(tmp_path: Path) -> None:
    """The scripts' markers are found in /var and in homes; afterburn counts where its units are enabled."""
    files: Texts = {
        "var/vmpasswordmd5sum": "x",
        "home/alice/.password.md5": "x",
        "usr/bin/afterburn": "",
        "usr/sbin/qemu-ga": "",
        "etc/systemd/system/multi-user.target.wants/afterburn-sshkeys@core.service": "",
    }
    found = cloud_init.find(put(tmp_path, files))
    assert found.markers == ("/var/vmpasswordmd5sum", "/home/alice/.password.md5")
    assert [(agent.name, agent.active, agent.what) for agent in found.agents] == [
        ("afterburn", True, "SSH keys"),
        ("qemu-guest-agent", False, ""),
    ]
    states = {verdict.saw.split(" ")[0]: verdict.state for verdict in ownership.judge(found, Settings())}
    assert states["afterburn"] == "warning" and states["qemu-guest-agent"] == "ok"


# --- what doctor says ---


def states(system: System, settings: Optional[Settings] = None) -> Dict[str, str]:
    return {one.saw: one.state for one in ownership.judge(cloud_init.find(system), settings or Settings())}


def test_nobody_else(tmp_path: Path) -> None:
    """A machine without any of them is well."""
    assert states(System.at(str(tmp_path))) == {"cloud-init is not installed": "ok"}


@pytest.mark.parametrize("unit", ["cloud-init.service", "cloud-init-network.service"])
def test_the_advice_on_passwords_helps(tmp_path: Path, unit: str) -> None:
    """The command that doctor names, once run, makes cloud-init wait, and the warning goes away."""
    system = installed(tmp_path, enabled="", run=FOUND, wget="", **{f"usr/lib/systemd/system/{unit}": "x"})
    (advice,) = [
        one.advice
        for one in ownership.judge(cloud_init.find(system), Settings())
        if "password server" in one.saw
    ]
    command = advice.split(": ", 1)[1].replace("/etc/", f"{tmp_path}/etc/")
    subprocess.run(["sh", "-c", command], check=True, timeout=300)
    shipped = (TOP / "packaging/cloud-init/csagent-first.conf").read_text()
    written = (tmp_path / f"etc/systemd/system/{unit}.d/csagent-first.conf").read_text()
    assert shipped.endswith(written) and written.startswith("[Unit]\n")
    assert look(system).waits and not look(system).takes_passwords
    (tmp_path / f"etc/systemd/system/{unit}.d").rename(tmp_path / f"usr/lib/systemd/system/{unit}.d")
    assert look(system).waits  # where a package has it
    assert not any("password server" in saw for saw in states(system))


def test_the_drop_in_for_templates(tmp_path: Path) -> None:
    """With packaging/cloud-init/90-csagent.cfg host name and keys are csagent's and nobody else's."""
    system = installed(tmp_path, enabled="", run=FOUND)
    before = look(system)
    assert before.manages_hostname and before.writes_keys
    (tmp_path / "etc/cloud/cloud.cfg.d").mkdir()
    shutil.copy(TOP / "packaging/cloud-init/90-csagent.cfg", tmp_path / "etc/cloud/cloud.cfg.d")
    after = look(system)
    assert after.takes_part and not after.manages_hostname and not after.writes_keys
    assert set(states(system).values()) == {"ok"}


def test_two_accounts_and_a_closed_root(tmp_path: Path) -> None:
    """Keys for two accounts are a warning; the same account for both is well."""
    system = installed(tmp_path, enabled="", run=FOUND)
    said = states(system)
    assert said["cloud-init writes CloudStack's keys for debian, csagent for root"] == "warning"
    assert [state for saw, state in said.items() if "disable_root" in saw] == ["note"]
    assert set(states(system, Settings(user="debian")).values()) == {"ok"}


def test_all_left_to_cloud_init(tmp_path: Path) -> None:
    """The setting is obeyed, and doctor says what CloudStack offers and cloud-init does not do."""
    every = Settings(cloud_init="cloud-init")
    said = states(installed(tmp_path / "a", enabled="", run=FOUND), every)
    assert [state for saw, state in said.items() if "no wget" in saw] == ["problem"]
    assert [state for saw, state in said.items() if "once per instance" in saw] == ["warning"]
    always = "cloud_init_modules: [update_hostname, [ssh, always]]\n"
    always += "cloud_config_modules: [[set_passwords, always]]\n"
    well = installed(tmp_path / "b", enabled="", run=FOUND, wget="", drop_in=always)
    assert set(states(well, every).values()) == {"ok"}
    off = installed(tmp_path / "c", **{"etc/cloud/cloud-init.disabled": ""})
    assert states(off, every) == {"cloud-init is disabled: /etc/cloud/cloud-init.disabled": "ok"}
