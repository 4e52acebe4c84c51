"""The support archive: what replays, what stays on the machine, and what a hostile machine makes of it."""

import fnmatch
import gzip
import io
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from support.captures import CHOSEN, WHOLE, discover, named, scenarios
from support.replace_fields import replace
from support.samples import make_key, make_tree

from csagent.apply.authorized_keys import BEGIN, END
from csagent.cli.discover import as_json
from csagent.cli.main import main
from csagent.discovery import finder, interfaces
from csagent.discovery.finder import look, prepare
from csagent.discovery.leases import CLIENTS, statements
from csagent.discovery.leases.client import RawLeases
from csagent.doctor import engine
from csagent.doctor.bundle import (
    archive,
    bundle,
    collect,
    manifest,
    recorded,
    redact,
    redact_config,
    redact_network,
)
from csagent.doctor.checks import others, sshd_config
from csagent.doctor.checks.last_pass import load_settings
from csagent.doctor.context import Seen
from csagent.errors import CsagentError, UsageError
from csagent.model import Nic, Place, Route
from csagent.sandbox import codec, jail
from csagent.sandbox.jail import Identity
from csagent.settings import Settings
from csagent.sources.request import Options
from csagent.system.seams import System
from csagent.system.tree import Tree

HASH = "$6$markersalt$markerhashmarkerhashmarkerhashmarkerhash"
NOW = 1_795_235_876.0


def gather_here(system, settings=None, **given):
    """What `bundle.gather` makes, in this process."""
    given = {"account": None, "documents": {}, "config": None, **given}
    job = bundle.Job(system, settings or Settings(), *given.values())
    job.read()
    return job.finish()


def unpack(content, directory):
    directory.mkdir()
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        packed.extractall(directory, filter="data")
    return directory


def contents(path):
    """Every file of an archive, by name."""
    with tarfile.open(path) as packed:
        return {one.name: packed.extractfile(one).read() if one.isreg() else b"" for one in packed}


def make(system, destination, settings=None, **given):
    bundle.write(system, settings or Settings(), str(destination), **given)
    return contents(destination)


def put(root, path, content, mtime=NOW):
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(file, (mtime, mtime))
    return file


def record(root, commands=None):
    """Make a tree a recorded one, with the output of commands."""
    listed = {}
    for number, (line, output) in enumerate((commands or {}).items()):
        put(root, f"_commands/{number}", output)
        listed[line] = f"_commands/{number}"
    put(root, "recorded.json", json.dumps({"now": NOW, "commands": listed}))
    return System.at(str(root))


def blocks(server="10.1.1.1", extra=""):
    return (
        f'lease {{\n  interface "eth0";\n  fixed-address 10.1.1.42;\n{extra}'
        f"  option dhcp-server-identifier {server};\n  option routers 10.1.1.1;\n"
        "  expire 5 2162/01/01 00:00:00;\n}\n"
    )


# --- what replays ---


@pytest.mark.parametrize("path", named(scenarios(WHOLE) if WHOLE.is_dir() else scenarios(CHOSEN)))
def test_capture_replays(path, tmp_path):
    """Of every captured client and situation the archive gives the very answer of the capture."""
    gathered = gather_here(System.at(str(path)))
    unpacked = unpack(archive.pack(gathered.members), tmp_path / "unpacked")
    assert gathered.left_out == ()
    assert as_json(discover(unpacked)) == as_json(discover(path))


REPLAYED = (
    "dhcpcd-10.1.0/tricky-bytes",
    "netplan-1.2.2+systemd-networkd-262/shared",
    "networkmanager-internal-1.30.6/shared",
    "wicked-0.6.80/stale-early",
)


@pytest.mark.parametrize("name", REPLAYED)
def test_whole_command_replays(name, tmp_path, capsys):
    """The same through the command line, `tar` and all, and of the unpacked archive an archive again."""
    machine, first, second = (tmp_path / name for name in ("machine", "first.tar.gz", "second.tar.gz"))
    shutil.copytree(CHOSEN / name, machine)
    place = Place("http://10.1.1.1:80", "DHCP server of eth0", "refused", "connection refused", 0.25)
    put(machine, recorded.SEEN, json.dumps(recorded.as_document(Seen(looked=True, places=(place,)))))
    said = []
    for root, destination in ((machine, first), (tmp_path / "unpacked", second)):
        assert main(["--root", str(root), "discover", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        code = main(["--root", str(root), "doctor", "--json", "--bundle", str(destination)])
        told = capsys.readouterr()
        assert told.err.count("\n") == 1 and str(destination) in told.err
        assert "Look before you send it" in told.err
        said.append((code, found, json.loads(told.out)))
        if destination == first:
            (tmp_path / "unpacked").mkdir()
            subprocess.run(["tar", "-xpf", first, "-C", tmp_path / "unpacked"], check=True)
    assert said[0] == said[1]
    assert said[0][2]["places"][0]["seconds"] == 0.25
    assert set(contents(first)) == set(contents(second))


def test_drives_of_the_machine_are_named_from_the_archive(tmp_path):
    """Labels in udev's database go along, serial numbers do not; `discover` names the drive elsewhere."""
    root = tmp_path / "machine"
    put(root, "/run/udev/control", "")
    put(root, "/sys/class/block/sr0/dev", "11:0\n")
    put(
        root,
        "/run/udev/data/b11:0",
        "S:disk/by-label/config-2\nE:ID_CDROM=1\nE:ID_SERIAL=marker-serial\n"
        "E:ID_FS_LABEL=config-2\nE:ID_FS_TYPE=iso9660\n",
    )
    system = record(root)
    found = look(system, prepare(system), ["config-2"]).drives
    assert [drive.device for drive in found] == ["/dev/sr0"]
    unpacked = unpack(archive.pack(gather_here(system).members), tmp_path / "unpacked")
    assert discover(unpacked).drives == found
    assert "marker" not in (unpacked / "run/udev/data/b11:0").read_text()


def test_clock_and_times_of_files_are_kept(tmp_path):
    """The archive says when it was made, and a lease file is as old in it as on the machine."""
    root = tmp_path / "machine"
    put(root, "/var/lib/dhcp/dhclient.leases", blocks(), mtime=NOW - 1000)
    unpacked = unpack(archive.pack(gather_here(record(root)).members), tmp_path / "unpacked")
    assert System.at(str(unpacked)).clock.now() == NOW
    assert (unpacked / "var/lib/dhcp/dhclient.leases").stat().st_mtime == NOW - 1000


def test_what_netlink_said_is_written_as_the_kernel_files_say_it():
    """NICs and default routes that no file tells are put into the files that a replay reads."""
    nics = (Nic("eth0", 2, "02:00:4c:9f:00:05", ("10.1.1.42", "10.1.1.43")), Nic("eth1", 3, None, ()))
    routes = (Route("eth0", "10.1.1.1", 0), Route("eth1", "10.2.2.254", 600))
    assert tuple(interfaces._from_ip_json(redact_network.made_ip_addr(nics))) == nics
    assert tuple(interfaces.parse_proc_route(redact_network.made_proc_route(routes).decode())) == routes
    kept = redact_network.routes(redact_network.made_proc_route(routes))
    assert kept == redact_network.made_proc_route(routes)


class Watched(Tree):
    """Notes what is looked at: opened, listed, or asked whether it is there."""

    def __init__(self, root):
        super().__init__(root)
        self.seen = set()

    def resolve(self, path, *, follow=True):
        self.seen.add(path)
        return super().resolve(path, follow=follow)


def listed(path):
    """Whether a path is one of those that an archive holds, or a directory above one."""
    depth = path.rstrip("/").count("/")
    for pattern, _ in (*manifest.files("/root"), *collect.EXTRA):
        parts = pattern.split("/")
        if fnmatch.fnmatchcase(path.rstrip("/"), "/".join(parts[: depth + 1])) and len(parts) > depth:
            return True
    marks = [mark for client in CLIENTS for mark in client.MARKS]
    return any(collect._matches(path, mark) or mark.startswith(path.rstrip("/") + "/") for mark in marks)


def test_everything_that_is_read_is_on_the_list(tmp_path):
    """discover and doctor open no file, and ask no command, that an archive would not hold."""
    root = make_tree(tmp_path / "machine")
    for path in ("/etc/ssh/sshd_config", "/etc/pam.d/sshd", "/etc/security/access.conf", "/proc/mounts"):
        put(root, path, "")
    put(root, "/run/csagent/status.json", '{"schema": 1, "data": {}, "places": []}')
    put(root, "/var/lib/dhcp/dhclient.leases", blocks())
    put(root, "/sys/class/net/eth0/ifindex", "2\n")
    finding = {"area": others.AREA, "state": "ok", "saw": "cloud-init is not installed"}
    put(root, others.REPORT, json.dumps({"findings": [finding]}))
    system = record(root)
    recorder = collect.Recorder(system.runner)
    tree = Watched(str(root))
    system = replace(system, tree=tree, runner=recorder)
    settings, _ = load_settings(system, None)
    look(system, prepare(system), settings.drive_labels)
    examined = engine.examine(system, settings, "", Options(), wait=0.0)
    assert not [one for one in examined.findings if "this probe" in one.saw]

    own = ("/recorded.json", "/_doctor/seen.json", others.REPORT)
    assert [path for path in tree.seen if path not in own and not listed(path)] == []
    assert {"/etc/shadow", "/run/csagent/status.json", "/var/lib/dhcp/dhclient.leases"} <= tree.seen
    account = examined.situation.account
    known = manifest.commands("root", account.home, account.shell, ["eth0"])
    assert len(recorder.heard) > 5 and set(recorder.heard) <= set(known)


PIECES = (
    b"\n",
    b"}",
    b"lease {",
    b'"',
    b"'",
    b"=",
    b"[x]\n",
    b"<lease>",
    b";",
    b"\r",
    b"\xff",
    b"\xe2\x80\x83",
)
PIECES += (b"ADDRESS=192.0.2.9\n", b"option routers 192.0.2.9;\n", b"\xe2\x80\x83", b"\0")


def damaged(content, chance):
    """A lease file as nobody writes it: cut, spliced, shuffled, with lines twice."""
    for _ in range(chance.randint(1, 4)):
        lines = content.split(b"\n")
        place, line = chance.randrange(len(content) + 1), chance.randrange(len(lines))
        kind = chance.randrange(6)
        if kind == 0:
            content = content[:place]
        elif kind == 1:
            content = content[:place] + chance.choice(PIECES) + content[place:]
        elif kind == 2:
            content = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
        elif kind == 3:
            content = b"\n".join(chance.sample(lines, len(lines)))
        elif kind == 4:
            content = b"\n".join([*lines[:line], chance.choice(lines), *lines[line:]])
        else:
            content = b"\n".join([*lines[:line], *lines[line + 1 :]])
    return content


@pytest.mark.parametrize("seed", range(4))
def test_sanitised_lease_says_what_the_damaged_one_said(seed):
    """Whatever is wrong with a lease file, what the finder makes of it does not change in the archive."""
    chance = random.Random(seed)
    pool = []
    for path in scenarios(CHOSEN):
        system = System.at(str(path))
        pool.append((prepare(system).leases, interfaces.nics(system)))
    changed = 0
    for _ in range(500):
        evidence, nics = chance.choice(pool)
        files = {path: damaged(content, chance) for path, content in evidence.files.items()}
        kept = {path: redact.file_rule(path, "lease", "root")(content) for path, content in files.items()}
        before, after = (
            list(statements(RawLeases(files=some, marks=evidence.marks), nics)) for some in (files, kept)
        )
        assert after == before, files
        changed += before != list(
            statements(RawLeases(evidence.files, evidence.unread, evidence.marks), nics)
        )
    assert changed > 100


# --- what stays ---


def test_everything_on_the_list_has_a_sanitiser():
    """Of no file and no command that is looked at has it been forgotten to say what may leave."""
    for pattern in manifest.FILES:
        lease = pattern in finder.lease_patterns()
        name = "lease" if lease else manifest.sanitiser(pattern)
        path = pattern.replace("{home}", "/root").replace("*", "x")
        assert name == "empty" or redact.file_rule(path, name, "root"), pattern
    for path, name in collect.EXTRA:
        assert name == "empty" or redact.file_rule(path, name, "root"), path
    for command in (*manifest.COMMANDS, collect.JOURNAL):
        assert redact.command_rule(command, "root"), command
    assert redact.file_rule("/etc/krb5.keytab", "plain", "root") is None
    assert redact.command_rule(("cat", "/etc/shadow"), "root") is None


MESSAGE = bytes([2]) + bytes(15) + bytes([10, 1, 1, 42]) + bytes(24) + b"marker-sname".ljust(64, b"\0")
MESSAGE += b"marker-file".ljust(128, b"\0") + b"\x63\x82\x53\x63\x35\x01\x05\x36\x04\x0a\x01\x01\x01"
MESSAGE += b"\xfc\x0dmarker-option\xff marker behind the end"

PLANTED = {
    "/etc/shadow": f"root:!{HASH}:19000:0:99999:7:::marker\nalice:{HASH}:1::::::\n",
    "/etc/gshadow": f"wheel:{HASH}::\n",
    "/etc/passwd": "root:x:0:0:marker gecos:/root:/bin/bash\nmarker:x:7:7::/home/marker:/bin/sh\n",
    "/etc/group": "root:x:0:marker,root\n",
    "/root/.ssh/authorized_keys": f'command="echo marker" {make_key(1, "marker@host")}\n# marker\nmarker\n',
    "/root/.ssh/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----\nmarker\n",
    "/root/.bash_history": "marker\n",
    "/etc/ssh/ssh_host_rsa_key": "marker",
    "/etc/ssh/ssh_host_rsa_key.pub": "marker",
    "/etc/ssh/sshd_config": "PermitRootLogin yes\n# marker\nSetEnv TOKEN=marker\nsetenv A=marker\n"
    "PasswordAuthentication yes # token marker\nAuthorizedKeysCommand /usr/bin/keys -u admin:marker\n"
    'ForceCommand "/bin/run --token marker"\nAuthorizedPrincipalsCommand TOKEN=marker /bin/x\n'
    "Subsystem sftp /bin/sftp -t marker\nProxyCommand /bin/nc marker\nBanner marker\nmarker\n"
    'Match exec "/bin/x --token marker"\nMatch User alice exec marker\n  PermitRootLogin no\n'
    "Match marker x\n",
    "/etc/ssh/sshd_config.d/1.conf": 'AuthorizedKeysCommand "/usr/bin/keys --token marker"\n',
    "/etc/crypto-policies/back-ends/opensshserver.config": "CRYPTO_POLICY='-oToken=marker'\nmarker\n",
    "/etc/pam.d/sshd": "auth required pam_mysql.so user=root passwd=marker dbpasswd=marker\n# marker\n"
    "-auth [success=1 default=ignore] /lib/security/pam_script.so --password marker --token marker\n"
    "account required pam_aws.so access_key=marker # marker\nauth required \\\n  pam_access.so marker\n"
    "@include common-auth\nauth substack password-auth\nauth marker marker\nmarker\n",
    "/etc/security/access.conf": "+ : root : ALL # marker\n- : token=marker : ALL\nmarker\n",
    "/etc/nologin": "ask with --token marker\n",
    "/run/nologin": "marker\n",
    "/etc/selinux/config": "SELINUX=enforcing\nTOKEN=marker\nmarker\n",
    "/etc/os-release": "ID=debian\nSUPPORT_TOKEN=marker\nmarker\n",
    "/etc/csagent/csagent.yaml": "# marker\nuser: root # marker\npassword: true\n",
    "/etc/csagent/conf.d/10.yaml": "password: marker-not-a-switch\n",
    "/etc/csagent/conf.d/20.yaml": "extra:\n  - marker\n  deep: marker\nnote: |\n  marker\nsources:\n"
    "- router\n- 'a marker'\ncloud_init: {a: marker}\n{b: marker}\nmarker\n  marker\n",
    "/etc/systemd/system/csagent.service.d/env.conf": "[Service]\nEnvironment=PROXY=marker \\\n"
    "  MORE=marker\nSetCredential=x:marker\nEnvironmentFile=/etc/default/csagent\n"
    "Environment=A=1 \\\n# a remark\n Y=marker \\\n; another\nAfter=marker\nRestart=always\n"
    "ExecStartPre=-/usr/bin/fetch --token marker\nExecStart=/bin/sh -c 'curl -H \"Bearer marker\"' \\\n"
    "  After=marker\nDescription=marker\nWants=a=marker\nmarker\n",
    "/etc/default/csagent": "TOKEN=marker\n",
    "/etc/environment": "TOKEN=marker\n",
    "/var/lib/csagent/instances/i.json": '{"schema": 1, "salt": "aa", "passwords": ["marker"]}',
    "/var/lib/csagent/instances/i.user-data": "#cloud-config\npassword: marker\n",
    "/var/lib/cloud/instance/user-data.txt": "#cloud-config\npassword: marker\n",
    "/run/cloud-init/instance-data-sensitive.json": '{"marker": 1}',
    "/run/csagent/instance.json": '{"metadata": {"x": "marker"}}',
    "/run/csagent/status.json": json.dumps(
        {"schema": 1, "data": {}, "user_data": "marker", "note": "password=marker"}
    ),
    "/etc/NetworkManager/system-connections/wifi.nmconnection": "[wifi-security]\npsk=marker\n",
    "/run/NetworkManager/devices/2": "[device]\nmanaged=true\n"
    "wifi-psk=marker\n[dhcp4]\ndhcp4.ip_address=10.1.1.42\n"
    "dhcp4.wpad=marker\n[marker]\nip_address=marker\n",
    "/run/systemd/netif/leases/2": "ADDRESS=10.1.1.42\nOPTION_252=marker\nVENDOR_SPECIFIC=marker\nmarker\n",
    "/var/lib/dhcp/dhclient.leases": "# marker\n"
    + blocks(extra='  option unknown-252 "marker";\n  filename "marker";\n'),
    "/var/lib/dhcpcd/eth0.lease": MESSAGE,
    "/var/lib/dhcpcd/eth1.lease": "root:marker:1::::::\n" * 20,
    "/run/wicked/leaseinfo.eth0.dhcp.ipv4": "IPADDR='10.1.1.42/24'\nBOOTFILE='marker'\nmarker\n",
    "/var/lib/wicked/lease-eth0-dhcp-ipv4.xml": "<lease>\n <family>ipv4</family>\n"
    " <auth>marker</auth>\n marker\n</lease>\n",
    "/run/dhcp-server-ip.eth0": "marker\n",
    "/run/udhcpc-env/eth0.bound": "serverid=10.1.1.1\nHOME=/root\n"
    "AWS_SECRET_ACCESS_KEY=marker\nboot_file=marker\n",
    "/var/tmp/cloud-init/eth0.lease.json": '{"interface": "eth0", "fixed-address": "10.1.1.42",'
    ' "opt252": "marker"}',
    "/run/net-eth0.conf": "DEVICE='eth0'\nROOTPATH='marker'\nfilename='marker'\n",
    "/var/lib/connman/wifi_x_managed_psk/settings": "[wifi]\nPassphrase=marker\nIPv4.method=dhcp\n",
    "/etc/resolv.conf": "# marker\nnameserver 10.1.1.1 # marker\nmarker\n"
    "options ndots:2 token:marker marker\nnameserver marker!\n",
    "/proc/mounts": "//server/marker /mnt cifs rw,username=marker,password=marker 0 0\n"
    "/dev/vda1 / ext4 rw,relatime 0 0\n",
    "/proc/net/route": "Iface\tDestination\tGateway\nmarker marker\n",
    "/proc/cmdline": "cloud-config-url=http://u:marker@x/\n",
}
SAID = {
    " ".join(
        collect.JOURNAL
    ): "2026-11-21T04:00:00+00:00 web csagent[7]: password: set, and the server was told\n"
    ""
    "2026-11-21T04:00:00+00:00 web csagent[7]: password=marker\n"
    "2026-11-21T04:00:00+00:00 web csagent[7]: secret: marker1\n"
    f"2026-11-21T04:00:00+00:00 web csagent[7]: {HASH} was seen\n"
    "2026-11-21T04:00:00+00:00 web csagent[7]: ValueError: no such thing: marker\n"
    "2026-11-21T04:00:00+00:00 web csagent[7]: curl --api-token marker -H 'Authorization: Bearer marker'\n"
    "2026-11-21T04:00:00+00:00 web systemd[1]: /etc/x.conf:2: Invalid environment assignment: Y=marker\n"
    "2026-11-21T04:00:00+00:00 web systemd[1]: Started csagent.service - marker.\n"
    "2026-11-21T04:00:00+00:00 web systemd[1]: csagent.service: Failed with result 'exit-code'.\n"
    "2026-11-21T04:00:00+00:00 web systemd[1]: csagent.service: Ignoring marker\n"
    "2026-11-21T04:00:00+00:00 web chpasswd[8]: marker\nmarker\n",
    "getent passwd root": "root:x:0:0:marker gecos:/root:/bin/bash\n",
    "id -Gn root": "root\n",
    "ip -j addr": '[{"ifindex": 2, "ifname": "eth0", "address": "02:00:4c:9f:00:05", "ifalias": "marker",'
    ' "addr_info": [{"family": "inet", "local": "10.1.1.42", "label": "marker"}]}]',
    "ip -j route": '[{"dst": "default", "gateway": "10.1.1.1", "dev": "eth0", "alias": "marker"}]',
    "networkctl --json=short status eth0": '{"Index": 2, "Secret": "marker",'
    ' "DHCPv4Client": {"Lease": {"Message":'
    ' {"options": [{"tag": 252, "data": "marker"}, {"tag": 54, "data": "0a010101"}]}}}}',
    "nmcli -f DHCP4 device show eth0": "DHCP4.OPTION[1]: wpad = marker\n"
    "DHCP4.OPTION[2]: ip_address = 10.1.1.42\n",
    "dhcpcd -U eth0": "interface=eth0\nwpad_url=marker\nip_address=10.1.1.42\n",
    "ausearch -m AVC -ts boot": "----\ntype=PROCTITLE msg=audit(1): proctitle=marker\n"
    'type=AVC msg=audit(1.0:1): avc:  denied  { write } for  pid=1 comm="csagent" x="marker" name="shadow"\n'
    "type=USER_AVC msg=audit(1.0:2): pid=1 msg='avc:  denied  { start } for auid=0 "
    'cmdline="/bin/x --token marker" comm="csagent"\'\n',
    "df -P -k /etc /var/lib /run /root": "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
    "//server/marker 10 1 9 1% /mnt\n/dev/vda1 100 1 99 1% /\nmarker\n",
    "cat /etc/shadow": "marker",
}


def test_no_secret_of_any_place_gets_out(tmp_path):
    """Secrets wherever a machine has them, or might: no name and no byte of the archive has one."""
    root = tmp_path / "machine"
    for path, content in PLANTED.items():
        put(root, path, content)
    said = dict(SAID)
    for command in manifest.commands("root", "/root", "/bin/bash", ["eth0"]):
        secret = {
            "sshd": "setenv X=marker\nauthorizedkeyscommand /usr/bin/keys -u admin:marker\nbanner marker\n",
            "systemctl": "Environment=X=marker\nId=ssh.service\nDescription=marker\nActiveState=active\n",
        }
        said.setdefault(" ".join(command), "token = marker\n" + secret.get(command[0], ""))
    system = record(root, said)
    documents = {"/_doctor/seen.json": {"problem": "password=marker", "deep": [{"token": "token: marker1"}]}}
    members = make(system, tmp_path / "b.tar.gz", documents=documents)
    for name, content in members.items():
        assert b"marker" not in content and "marker" not in name, (name, content)
        assert HASH[3:12].encode() not in content
    assert members["etc/shadow"] == b"root:!$6$redacted:19000:0:99999:7:::\n"
    assert members["etc/passwd"] == b"root:x:0:0::/root:/bin/bash\n"
    assert members["root/.ssh/authorized_keys"].startswith(b"ssh-ed25519 bits=0\n#\n#\n")
    assert members["etc/ssh/ssh_host_rsa_key.pub"] == b""
    assert b"PermitRootLogin yes" in members["etc/ssh/sshd_config"]
    assert b"password: true" in members["etc/csagent/csagent.yaml"]
    assert b"EnvironmentFile=/etc/default/csagent" in members["etc/systemd/system/csagent.service.d/env.conf"]
    assert members["etc/ssh/sshd_config"].decode().split("\n") == [
        "PermitRootLogin yes",
        *("#", "# left out", "# left out"),
        "PasswordAuthentication yes",
        "AuthorizedKeysCommand /usr/bin/keys",
        "ForceCommand /bin/run",
        "AuthorizedPrincipalsCommand left-out",
        "Subsystem sftp /bin/sftp",
        "ProxyCommand /bin/nc",
        *("# left out", "# left out"),
        "Match exec left-out",
        "Match User alice exec left-out",
        "  PermitRootLogin no",
        "Match left-out left-out",
        "",
    ]
    assert members["etc/pam.d/sshd"].decode().split("\n") == [
        "auth required pam_mysql.so",
        "#",
        "-auth [success=1 default=ignore] /lib/security/pam_script.so",
        "account required pam_aws.so",
        "#",
        "pam_access.so",
        "@include common-auth",
        "auth substack password-auth",
        *("#", "#", ""),
    ]
    env = members["etc/systemd/system/csagent.service.d/env.conf"].decode().split("\n")
    assert [line for line in env if line not in ("#", "")] == [
        "[Service]",
        "EnvironmentFile=/etc/default/csagent",
        "Restart=always",
        "ExecStartPre=-/usr/bin/fetch",
        "ExecStart=/bin/sh",
        "Wants=left-out",
    ]
    assert members["etc/security/access.conf"] == b"+ : root : ALL\n#\n#\n"
    assert members["etc/nologin"] == members["run/nologin"] == b""
    assert b"options ndots:2\n" in members["etc/resolv.conf"]
    printed = [name for name in members if name.startswith("_commands/")]
    said_by = {name.split("/")[1].split("-")[0].split(".")[0]: members[name] for name in printed}
    assert b"authorizedkeyscommand /usr/bin/keys\n" in said_by["sshd"]
    assert b"Id=ssh.service" in said_by["systemctl"] and b"ActiveState=active" in said_by["systemctl"]
    assert b'denied  { write } for pid=1 comm="csagent" name="shadow"' in said_by["ausearch"]
    assert b"- 10 1 9 1% /mnt\n/dev/vda1 100" in members["_commands/df-P-k-etc-var-lib-run-root.txt"]
    assert b"web systemd[1]: Started it\n" in said_by["journalctl"]
    assert b"Failed with result 'exit-code'" in said_by["journalctl"]
    assert b"ValueError: redacted" in said_by["journalctl"]
    journal = next(content for name, content in members.items() if "journalctl" in name)
    assert b"password: set, and the server was told" in journal
    absent = ("instance", "lib/cloud", "id_ed25519", "system-connections", "gshadow", "cmdline")
    assert not [name for name in members if any(part in name for part in absent)]
    # What is left of the leases still says what they are.
    assert b"\x36\x04\x0a\x01\x01\x01" in members["var/lib/dhcpcd/eth0.lease"]
    assert set(members["var/lib/dhcpcd/eth1.lease"]) == {0}
    assert b"option dhcp-server-identifier 10.1.1.1;" in members["var/lib/dhcp/dhclient.leases"]


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        (HASH, "$6$redacted"),
        (f"!{HASH}", "!$6$redacted"),
        ("!!", "!!"),
        ("*", "*"),
        ("", ""),
        ("$y$j9T$marker$marker", "$y$redacted"),
        ("abJnggxhB/yWI", "redacted"),
        ("$marker$x", "redacted"),
        ("!*marker", "!*redacted"),
    ],
)
def test_password_field_says_locked_and_how_it_is_hashed(field, kept):
    """Of a shadow entry's password the lock and the method are left."""
    assert redact.password_field(field) == kept


def test_length_of_an_rsa_key_is_kept():
    """sshd's RequiredRSASize decides by it; the key itself is not in the archive."""
    import base64

    def field(value):
        return len(value).to_bytes(4, "big") + value

    blob = field(b"ssh-rsa") + field(b"\x01\x00\x01") + field(b"\x00" + b"\xc5" * 128)
    line = f"no-pty ssh-rsa {base64.b64encode(blob).decode()} me@home\n"
    text = f"{BEGIN}\n{line}{END}\n# mine\n{line}"
    kept = redact.keys(text.encode())
    assert kept.decode() == f"{BEGIN}\nssh-rsa bits=1024\n{END}\n#\nssh-rsa bits=1024\n"
    assert redact.keys(kept) == kept
    assert redact.keys(b"ssh-rsa nonsense\nssh-rsa AAAAnonsense\n") == b"#\n#\n"


def test_a_file_with_a_private_key_or_a_hash_is_refused(tmp_path):
    """What slips through a sanitiser is caught by what the machine itself knows to be secret."""
    root = tmp_path / "machine"
    put(root, "/etc/shadow", "root:DESmarkerhash:1::::::\n")
    put(root, "/etc/selinux/config", "SELINUX=enforcing DESmarkerhash\n")
    put(root, "/etc/os-release", "NAME=-----BEGIN OPENSSH PRIVATE KEY-----\n")
    gathered = gather_here(record(root))
    assert {path for path, _ in gathered.left_out} == {"/etc/selinux/config", "/etc/os-release"}
    assert "/etc/shadow" in {member.path for member in gathered.members}


def test_given_settings_stand_for_the_usual_ones(tmp_path):
    """With --config the archive replays with that file, as the machine would with it."""
    root = tmp_path / "machine"
    put(root, "/etc/csagent/csagent.yaml", "user: root\n")
    put(root, "/etc/csagent/conf.d/1.yaml", "user: alice\n")
    given = put(tmp_path, "given.yaml", "user: bob\n")
    members = make(record(root), tmp_path / "b.tar.gz", config=str(given))
    assert members["etc/csagent/csagent.yaml"] == b"user: bob\n"
    assert "etc/csagent/conf.d/1.yaml" not in members
    assert b"--config" in members["_doctor/left-out.txt"]


def test_wrong_settings_are_wrong_in_the_archive_too(tmp_path, capsys):
    """The line that csagent does not understand is what support has to see; its value is not."""
    root = put(tmp_path / "machine", "/etc/csagent/csagent.yaml", "# x\nuser: root\nroot_password: marker\n")
    record(tmp_path / "machine")
    said = []
    for machine in (tmp_path / "machine", tmp_path / "unpacked"):
        main(
            ["--root", str(machine), "doctor", "--json", "--bundle", str(tmp_path / f"{machine.name}.tar.gz")]
        )
        findings = json.loads(capsys.readouterr().out)["findings"]
        said.append([one for one in findings if one["area"] == "settings"])
        if machine.name == "machine":
            unpack((tmp_path / "machine.tar.gz").read_bytes(), tmp_path / "unpacked")
    assert "line 3" in str(said[0]) and said[0] == json.loads(
        json.dumps(said[1]).replace(str(tmp_path / "unpacked"), str(tmp_path / "machine"))
    )
    assert b"marker" in root.read_bytes()
    assert b"marker" not in (tmp_path / "unpacked/etc/csagent/csagent.yaml").read_bytes()


def test_a_directory_without_end_is_bounded(tmp_path):
    """More than a thousand drop-ins are not read to the last; the archive is made, and says so."""
    root = tmp_path / "machine"
    for number in range(1200):
        put(root, f"/etc/csagent/conf.d/{number:04}.yaml", "user: root\n")
    put(root, "/var/lib/dhcp/dhclient.leases", blocks())
    gathered = gather_here(record(root))
    left = dict(gathered.left_out)
    assert "more than 1000 files" in left["/etc/csagent/conf.d/*.yaml"]
    assert len(gathered.members) < 1050 and len(left) <= collect.MAX_LEFT_OUT + 1


# --- a hostile machine ---


def test_hostile_lease_directory_neither_hangs_nor_leaks(tmp_path):
    """A pipe, a gigabyte of nothing, links to secrets and devices, odd names: seconds, and no secret."""
    root = tmp_path / "machine"
    put(root, "/etc/shadow", f"root:{HASH}:1::::::\n")
    put(root, "/secret", "option dhcp-server-identifier marker;\nmarker\n")
    leases = put(root, "/var/lib/dhcp/dhclient.eth0.leases", blocks()).parent
    os.mkfifo(leases / "dhclient.pipe.leases")
    for name in ("dhclient.sparse.leases", "other.leases"):
        with open(leases / name, "wb") as stream:
            stream.truncate(1 << 30)
    for name, target in (("shadow", "/etc/shadow"), ("zero", "/dev/zero"), ("loop", "dhclient.loop.leases")):
        (leases / f"dhclient.{name}.leases").symlink_to(target)
    put(root, "/var/lib/dhcp/dhclient.a\nmarker: x.leases", blocks())
    (leases / os.fsdecode(b"dhclient.\xffmarker.leases")).write_text(blocks())
    (root / "etc/nologin").symlink_to("/etc/shadow")
    (root / "etc/resolv.conf").symlink_to("/secret")
    put(root, "/etc/pam.d/x", "")
    os.mkfifo(root / "etc/pam.d/sshd")
    started = time.monotonic()
    members = make(record(root), tmp_path / "b.tar.gz")
    assert time.monotonic() - started < 20
    left = members["_doctor/left-out.txt"].decode()
    assert "other.leases: File too large" in left and "/etc/pam.d/sshd" in left
    assert "/etc/resolv.conf: a link to /secret" in left
    assert members["etc/nologin"] == b""
    for name, content in members.items():
        if name != "_doctor/left-out.txt":
            assert b"marker" not in content and "marker" not in name
    assert len(left.splitlines()) < 25 and HASH not in left
    assert members["var/lib/dhcp/dhclient.eth0.leases"] == blocks().encode()
    assert len(members["var/lib/dhcp/dhclient.sparse.leases"]) <= 256 * 1024


def test_links_of_the_system_are_followed(tmp_path):
    """resolv.conf is systemd-resolved's, sshd's PAM stack authselect's: their content goes in."""
    root = tmp_path / "machine"
    put(root, "/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n")
    put(root, "/etc/authselect/password-auth", "auth required pam_unix.so\n")
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    put(root, "/etc/pam.d/login", "")
    (root / "etc/pam.d/password-auth").symlink_to("/etc/authselect/password-auth")
    members = make(record(root), tmp_path / "b.tar.gz")
    assert members["etc/resolv.conf"] == b"nameserver 127.0.0.53\n"
    assert members["etc/pam.d/password-auth"] == b"auth required pam_unix.so\n"


def test_archive_has_bounds(tmp_path):
    """A file over 1 MiB, and what goes beyond 16 MiB in all, is named and left out."""
    root = tmp_path / "machine"
    put(root, "/etc/ssh/sshd_config", "Port 22\n")
    put(root, "/etc/security/access.conf", ("-:ALL:" + "x" * 1000 + "\n") * 1100)
    put(root, "/etc/pam.d/sshd", b"x" * (5 << 20))
    for number in range(20):
        put(root, f"/etc/ssh/sshd_config.d/{number:02}.conf", ("AllowUsers " + "x" * 1000 + "\n") * 950)
    gathered = gather_here(record(root))
    left = dict(gathered.left_out)
    assert left["/etc/security/access.conf"] == "larger than 1 MiB"
    assert left["/etc/pam.d/sshd"] == "larger than 4 MiB"
    assert sum(reason == "more than 16 MiB in all" for reason in left.values()) == 3
    assert sum(len(member.content) for member in gathered.members) <= 16 << 20
    assert "/etc/ssh/sshd_config" in {member.path for member in gathered.members}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else, who may not read all")
def test_what_only_root_may_read_is_listed(tmp_path):
    """Without root the archive is made all the same and says what is not in it."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        put(root, "/etc/shadow", f"root:{HASH}:1::::::\n").chmod(0o600)
        put(root, "/etc/os-release", "ID=debian\n")
        put(root, "/var/lib/NetworkManager/internal-x.lease", "").parent.chmod(0o700)
        put(root, "/var/lib/dhcpcd/eth0.lease", MESSAGE).chmod(0o600)
        job = bundle.Job(record(root), Settings(), None, {}, None)
        (root / "recorded.json").chmod(0o644)

        def work(_prepared, _say):
            job.read()
            return codec.encode(job.finish())

        limits = replace(jail.READER, cpu=30)
        answer = jail.run(
            jail.Job("test", job.system, finder.warm_up, work, limits, Identity(65534, 65534)), 60.0
        )
    gathered = codec.decode(bundle.Gathered, answer)
    left = dict(gathered.left_out)
    assert left["/etc/shadow"] == left["/var/lib/dhcpcd/eth0.lease"] == "Permission denied"
    assert left["/var/lib/NetworkManager/"] == "only root may look into it"
    assert "/etc/os-release" in {member.path for member in gathered.members}


class Breaking(Tree):
    """A tree that cannot be listed."""

    def glob(self, pattern):
        raise RuntimeError("marker")


def test_archive_is_made_even_where_reading_fails(tmp_path):
    """What doctor has found goes in even if nothing else can, and the archive says so."""
    (tmp_path / "machine").mkdir()
    system = replace(record(tmp_path / "machine"), tree=Breaking(str(tmp_path / "machine")))
    members = make(system, tmp_path / "b.tar.gz", documents={"/_doctor/report.json": {"verdict": "x"}})
    assert json.loads(members["_doctor/report.json"]) == {"verdict": "x"}
    assert json.loads(members["recorded.json"])["now"] == NOW
    assert b"everything else: " in members["_doctor/left-out.txt"]
    assert b"marker" not in members["_doctor/left-out.txt"]


# --- the file ---


def test_archive_is_private_relative_and_reproducible(tmp_path):
    """0600, names without a leading slash, nothing but files and directories, twice the same bytes."""
    path = CHOSEN / REPLAYED[0]
    old = os.umask(0)
    try:
        for name in ("a.tar.gz", "b.tar.gz"):
            make(System.at(str(path)), tmp_path / name)
    finally:
        os.umask(old)
    first = (tmp_path / "a.tar.gz").read_bytes()
    assert first == (tmp_path / "b.tar.gz").read_bytes()
    assert stat.S_IMODE((tmp_path / "a.tar.gz").stat().st_mode) == 0o600
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(first))) as packed:
        entries = packed.getmembers()
    assert [one.name for one in entries] == sorted({one.name for one in entries})
    assert all(one.isreg() or one.isdir() for one in entries)
    assert not [one.name for one in entries if one.name.startswith(("/", ".."))]
    assert {one.mode & 0o600 for one in entries} == {0o600}
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "b.tar.gz"]


@pytest.mark.parametrize("kind", ["file", "dangling link", "directory"])
def test_nothing_is_overwritten(kind, tmp_path, capsys):
    """A name that is taken is refused in one line, before anything is looked at, and stays as it was."""
    destination = tmp_path / "b.tar.gz"
    if kind == "file":
        destination.write_text("mine")
    elif kind == "directory":
        destination.mkdir()
    else:
        destination.symlink_to(tmp_path / "elsewhere")
    before = os.lstat(destination)
    assert main(["--root", str(CHOSEN / REPLAYED[0]), "doctor", "--bundle", str(destination)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "not overwritten" in said.err
    with pytest.raises(UsageError):
        archive.put(str(destination), b"x")
    assert os.lstat(destination) == before
    assert os.listdir(tmp_path) == ["b.tar.gz"]


@pytest.mark.parametrize("name", ["-", "", "missing/b.tar.gz"])
def test_a_place_that_cannot_be_is_refused_at_once(name, tmp_path):
    """No file to write to is said before the work, not behind it."""
    with pytest.raises(UsageError):
        archive.check(str(tmp_path / name) if "/" in name else name)


def test_a_full_disk_leaves_nothing(tmp_path):
    """An archive that cannot be written whole is not there, nor is a part of it."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(CsagentError, match="File too large"):
            archive.put(str(tmp_path / "b.tar.gz"), b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(tmp_path) == []


def test_a_file_that_takes_too_long_costs_no_other(tmp_path, monkeypatch):
    """A sanitiser that does not end, and one that fails, lose their own file; the archive has the rest."""
    import re

    def slow(content):
        return b"" if re.fullmatch(rb"(a+)+b", b"a" * 64) else content

    def broken(content):
        raise ValueError(content)

    monkeypatch.setattr(bundle, "FILE_SECONDS", 0.3)
    rules = (("/etc/os-release", slow), ("/etc/selinux/config", broken), *redact.FILES)
    monkeypatch.setattr(redact, "FILES", rules)
    root = tmp_path / "machine"
    put(root, "/etc/os-release", "ID=x\n")
    put(root, "/etc/selinux/config", "SELINUX=marker\n")
    put(root, "/etc/ssh/sshd_config", "Port 22\n")
    members = make(record(root), tmp_path / "b.tar.gz")
    left = members["_doctor/left-out.txt"]
    assert b"/etc/os-release: it takes too long to look through\n" in left
    assert b"/etc/selinux/config: not what it should be (ValueError)\n" in left and b"marker" not in left
    assert members["etc/ssh/sshd_config"] == b"Port 22\n"
    assert "etc/os-release" not in members and "etc/selinux/config" not in members


def test_all_files_together_have_an_end_too(tmp_path, monkeypatch):
    """When the time of all of them is used up the rest is named as left out."""
    monkeypatch.setattr(bundle, "ALL_SECONDS", 0.0)
    put(tmp_path / "machine", "/etc/os-release", "ID=x\n")
    gathered = gather_here(record(tmp_path / "machine"))
    assert dict(gathered.left_out)["/etc/os-release"] == "it takes too long to look through"


@pytest.mark.parametrize("blank", [b"\n", b" ", b"\t\n", b"\r\n"])
def test_nothing_but_blanks_costs_no_more_than_its_length(blank):
    """200 kB of blank lines, or of blanks with a word behind: no sanitiser takes a second over it."""
    rules = [rule for _, rule in (*redact.FILES, *redact.LEASES)]
    for rule in [*rules, redact.keys, *redact.COMMANDS.values()]:
        for content in (blank * 100_000, b"After=x" + blank * 100_000 + b"y", b"auth" + blank * 100_000):
            started = time.process_time()
            rule(content)
            assert time.process_time() - started < 2.0, rule


SETTINGS = (
    ("user: alice\npassword: off\nsources: [drive, router]\nwait: 2.5\n", True),
    ("sources:\n  - drive # first\ndrive_labels:\n- config-2\n- 'my drive'\n", True),
    ("---\ncloud_init: cloud-init\ndrive_labels: [\"config-2\", 'x y']\n...\n", True),
    ("user: no such name\n", False),
    ("user: root\npassword: perhaps\n", False),
    ("sources: [router, somewhere]\n", False),
    ("user: root\nunknown:\n  deep: text\n", False),
    ("user root\n", False),
    ("user: root\n  hostname: true\n", False),
    ("wait: soon\n", False),
)


def test_every_setting_has_its_values():
    """A setting that is added is kept in archives too, once it is said what may stand there."""
    assert set(redact_config._VALUES) == set(Settings().as_plain())


@pytest.mark.parametrize(("text", "valid"), SETTINGS)
def test_settings_say_the_same_in_the_archive(text, valid, tmp_path):
    """Of settings enough is kept that they, or what is wrong with them and where, are read the same."""
    said = []
    for name, content in (("a", text.encode()), ("b", redact_config.settings(text.encode()))):
        put(tmp_path / name, "/etc/csagent/csagent.yaml", content)
        settings, problem = load_settings(System.at(str(tmp_path / name)), None)
        said.append((settings, problem.replace(str(tmp_path / name), "")))
    assert said[0] == said[1] and (said[0][1] == "") is valid


@pytest.mark.parametrize(
    "line",
    [
        'AllowGroups "domain users" wheel',
        "AllowUsers alice@10.0.0.0/8 !bob",
        "  authorizedkeysfile=/etc/keys/%u .ssh/authorized_keys",
        "PubkeyAcceptedAlgorithms -ssh-rsa*,ssh-dss",
        "Include /etc/ssh/sshd_config.d/*.conf",
        "Match User root,!x* Address 10.0.0.0/8,192.0.2.1",
        "Match all",
    ],
)
def test_judged_lines_of_sshd_read_the_same_in_the_archive(line):
    """What decides about a login is kept word for word."""
    assert sshd_config.split(redact_config.sshd(line.encode()).decode()) == sshd_config.split(line)


def test_archive_of_a_tree_is_judged_as_a_tree(tmp_path, capsys):
    """`--root DISK doctor --bundle`: elsewhere too nobody misses a pass, a unit or a NIC that no disk has."""
    root = make_tree(tmp_path / "machine")
    put(root, "/etc/ssh/sshd_config", "PermitRootLogin yes\nUsePAM yes\n")
    put(root, "/usr/lib/systemd/system/csagent.service", "[Service]\n")
    put(root, "/etc/systemd/system/multi-user.target.wants/csagent.service", "")
    destination = tmp_path / "b.tar.gz"
    said = []
    for machine in (root, tmp_path / "unpacked"):
        words = ["--bundle", str(destination)] if machine == root else []
        main(["--root", str(machine), "doctor", "--json", *words])
        findings = json.loads(capsys.readouterr().out)["findings"]
        bad = [one for one in findings if one["state"] in ("problem", "warning")]
        said.append(({one["saw"] for one in bad}, {one["saw"] for one in findings}))
        if machine == root:
            assert json.loads(contents(destination)[recorded.SEEN[1:]])["tree"] is True
            unpack(destination.read_bytes(), tmp_path / "unpacked")
    assert said[1][0] <= said[0][0], said[1][0] - said[0][0]
    assert {one for one in said[0][1] if "this is a tree" in one} <= said[1][1]


@pytest.mark.parametrize(
    "piece",
    [
        "password",
        "a_b.c-",
        "://x:",
        "$6$",
        "password: x ",
        "secret= ",
        "'\"",
        "[x]",
        "--token ",
        "x ",
        '"\\" ',
    ],
)
def test_a_line_without_end_costs_no_more_than_its_length(piece):
    """Half a megabyte of what a sanitiser looks for, in one line: none of them takes a second over it."""
    line = (piece * (512 * 1024 // len(piece))).encode()
    rules = [rule for _, rule in (*redact.FILES, *redact.LEASES)]
    rules += [redact.keys, *redact.COMMANDS.values(), redact_network.ip_route]
    for rule in rules:
        started = time.process_time()
        rule(line)
        assert time.process_time() - started < 3.0, rule


def test_archive_of_an_archive_is_the_same(tmp_path):
    """What was left out once is not taken for something else the second time."""
    root = tmp_path / "machine"
    for path, content in PLANTED.items():
        put(root, path, content)
    first = make(record(root, SAID), tmp_path / "first.tar.gz")
    unpacked = unpack((tmp_path / "first.tar.gz").read_bytes(), tmp_path / "unpacked")
    assert make(System.at(str(unpacked)), tmp_path / "second.tar.gz") == first
