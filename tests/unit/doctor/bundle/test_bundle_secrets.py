"""Nothing secret gets into a support archive, wherever it stands and whatever it looks like."""

import json

import pytest
from support.archives import archive_of, blocks
from support.healthy_machine import FOUND, SEEN, Patient
from support.replace_fields import replace
from support.samples import make_key

from csagent.apply.authorized_keys import merge
from csagent.doctor.bundle import raw
from csagent.model import Place
from csagent.settings import Settings

SECRETS = (
    "EXAMPLE-secret",
    "hunter2",
    "Tr0ub4dor&3",
    "48151623",
    "correct-horse-battery-staple",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "AKIAIOSFODNN7EXAMPLE",
    "dGhpcyBpcyBhIHNlY3JldA==",
    "9f1c2d3e-0b1a-4c5d-8e9f-001122334455",
)
MESSAGE = bytes([2]) + bytes(15) + bytes([10, 1, 1, 42]) + bytes(24)

# SECRET stands for one of them. As meant and not in here: a name that DHCP or DMI gives, and file names.
FILES = {
    # accounts, and what is only root's
    "/etc/shadow": "root:$6$SECRET$SECRET:19000:0:99999:7:::SECRET\nalice:SECRET:1::::::\n",
    "/etc/gshadow": "wheel:SECRET::\n",
    "/etc/passwd": "root:x:0:0:SECRET:/root:/bin/bash\nSECRET:x:7:7:SECRET:/home/x:/bin/sh\n",
    "/etc/group": "root:x:0:SECRET,root\nSECRET:x:8:SECRET\n",
    "/root/.ssh/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n",
    "/root/.bash_history": "SECRET\n",
    "/etc/environment": "TOKEN=SECRET\n",
    "/etc/default/csagent": "TOKEN=SECRET\n",
    "/etc/NetworkManager/system-connections/wifi.nmconnection": "[wifi-security]\npsk=SECRET\n",
    "/proc/cmdline": "cloud-config-url=http://u:SECRET@x/\n",
    # csagent's own
    "/var/lib/csagent/instances/i.json": '{"schema": 1, "salt": "aa", "passwords": ["SECRET"]}',
    "/var/lib/csagent/instances/i.user-data": "#cloud-config\npassword: SECRET\n",
    "/run/csagent/instance.json": '{"metadata": {"x": "SECRET"}, "hostname": "SECRET"}',
    "/etc/csagent/csagent.yaml": "# SECRET\nuser: root # SECRET\nSECRET: SECRET\n",
    "/etc/csagent/conf.d/10.yaml": "password: SECRET\nnote: |\n  SECRET\n",
    "/etc/systemd/system/csagent.service.d/env.conf": "[Service]\nEnvironment=X=SECRET\n"
    "SetCredential=x:SECRET\nExecStartPre=-/usr/bin/fetch --token SECRET\nDescription=SECRET\n",
    # sshd and PAM
    "/etc/ssh/ssh_host_ed25519_key": "SECRET",
    "/etc/ssh/sshd_config": "PermitRootLogin no # SECRET\n# SECRET\nSetEnv TOKEN=SECRET\nBanner SECRET\n"
    "AuthorizedKeysCommand /usr/bin/keys -u admin:SECRET\nForceCommand /bin/run --token SECRET\n"
    "AuthorizedPrincipalsCommand TOKEN=SECRET /bin/x\nSubsystem sftp /bin/sftp -t SECRET\nSECRET x\n"
    "ProxyCommand /bin/nc SECRET\nAllowUsers SECRET\nDenyUsers SECRET\nAllowGroups SECRET\n"
    "DenyGroups SECRET\nAuthenticationMethods SECRET\nAuthorizedKeysFile SECRET\nUsePAM yes\n"
    "PubkeyAcceptedAlgorithms SECRET\nRequiredRSASize SECRET\nPasswordAuthentication SECRET\n"
    'Match exec "/bin/x --token SECRET"\nMatch User SECRET exec SECRET\nMatch SECRET x\n',
    "/etc/crypto-policies/back-ends/opensshserver.config": "CRYPTO_POLICY='-oToken=SECRET'\n",
    "/etc/pam.d/sshd": "account required pam_access.so token=SECRET\nauth required pam_x.so passwd=SECRET\n",
    "/etc/security/access.conf": "+ : SECRET : ALL # SECRET\n- : root SECRET : SECRET\n",
    "/etc/nologin": "ask with --token SECRET\n",
    # the machine
    "/etc/selinux/config": "SELINUX=enforcing\nTOKEN=SECRET\n",
    "/sys/fs/selinux/enforce": "1",
    "/etc/os-release": "ID=debian\nSUPPORT_TOKEN=SECRET\n",
    "/etc/hostname": "my token is SECRET\n",
    "/etc/resolv.conf": "# SECRET\nnameserver 10.1.1.1 # SECRET\nSECRET\noptions ndots:2 token:SECRET\n"
    "search example.org SECRET\n",
    "/proc/mounts": "//server/SECRET / cifs ro,username=SECRET,password=SECRET 0 0\nx /SECRET tmpfs rw 0 0\n",
    "/sys/class/net/eth0/carrier": "SECRET\n",
    "/sys/class/net/eth0/ifalias": "SECRET\n",
    "/run/udev/control": "SECRET",
    "/sys/class/block/vda/dev": "254:0\n",
    "/run/udev/data/b254:0": "E:ID_SERIAL=SECRET\nE:ID_FS_LABEL=token is SECRET;\nS:SECRET\nSECRET\n",
    "/sys/class/block/vdb/dev": "SECRET\n",
    # other agents
    "/etc/cloud/cloud.cfg": "datasource_list: [CloudStack, SECRET]\nsystem_info:\n  default_user:\n"
    "    name: SECRET\n    plain_text_passwd: SECRET\ncloud_init_modules: [SECRET, ssh]\n",
    "/var/lib/cloud/instance/user-data.txt": "#cloud-config\npassword: SECRET\n",
    "/run/cloud-init/instance-data-sensitive.json": '{"x": "SECRET"}',
    "/etc/init.d/cloud-set-guest-password": "#!/bin/sh\n# DomU_Request\nTOKEN=SECRET\n",
    # the managers' files
    "/etc/systemd/network/80-x.network": "# SECRET\n[Match]\nName=eth0 SECRET\nMACAddress=SECRET\n[SECRET]\n"
    "[Network]\nDHCP=SECRET\nAddress=SECRET\nDNS=SECRET\nDomains=SECRET\nVLAN=SECRET\nSECRET\n",
    "/etc/NetworkManager/system-connections/a.nmconnection": "[connection]\nid=SECRET\nuuid=SECRET\n"
    "type=ethernet\ninterface-name=SECRET\n[802-1x]\npassword=SECRET\n[ipv4]\nmethod=SECRET\n"
    "address1=SECRET\naddressSECRET=1\n",
    "/etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=SECRET\nIPADDR=SECRET\nKEY=SECRET\n# SECRET\n",
    "/etc/network/interfaces": "# SECRET\nauto SECRET\niface SECRET inet SECRET\n  address SECRET\n"
    "  wpa-psk SECRET\n  up SECRET\nmapping SECRET\n  script SECRET\n  map SECRET\nsource SECRET\n",
    "/run/network/ifstate": "eth0=SECRET\nSECRET=eth0\n",
    # leases, with odd options
    "/run/NetworkManager/devices/2": "[device]\nmanaged=true\nwifi-psk=SECRET\n[dhcp4]\n"
    "dhcp4.ip_address=10.1.1.42\ndhcp4.wpad=SECRET\ndhcp4.routers=SECRET\n[SECRET]\nip_address=SECRET\n",
    "/run/systemd/netif/leases/2": "ADDRESS=10.1.1.42\nOPTION_252=SECRET\nVENDOR_SPECIFIC=SECRET\nSECRET\n"
    "DOMAINNAME=cs2cloud.internal SECRET\nDNS=10.1.1.1 SECRET\nNTP=SECRET\nSERVER_ADDRESS=SECRET\n",
    "/run/systemd/netif/links/2": "ADMIN_STATE=SECRET\nNETWORK_FILE=/run/SECRET\nDHCP_LEASE=SECRET\n",
    "/var/lib/dhcp/dhclient.leases": "# SECRET\nSECRET\n"
    + blocks(
        '  option unknown-252 "SECRET";\n  filename "SECRET";\n  option routers 10.1.1.1; # SECRET\n'
        '  option host-name "web01; my token is SECRET";\n  server-name "SECRET";\n  vendor SECRET;\n'
        '  option domain-search "a.example.org", "SECRET";\n  option ntp-servers SECRET;\n'
        "  option routers 10.1.1.1; SECRET\n  option dhcp-client-identifier SECRET;\n"
    ),
    "/run/wicked/leaseinfo.eth0.dhcp.ipv4": "IPADDR='10.1.1.42/24'\nBOOTFILE='SECRET'\nSECRET\n"
    "NETMASK='SECRET'\n",
    "/var/lib/wicked/lease-eth0-dhcp-ipv4.xml": "<lease>\n <family>ipv4</family>\n <auth>SECRET</auth>\n"
    " SECRET\n <SECRET>\n <address>SECRET</address>\n</lease>\n",
    "/run/dhcp-server-ip.eth0": "SECRET\n",
    "/run/udhcpc-env/eth0.bound": "serverid=10.1.1.1\nAWS_SECRET_ACCESS_KEY=SECRET\nboot_file=SECRET\n",
    "/run/net-eth0.conf": "DEVICE='eth0'\nROOTPATH='SECRET'\nfilename='SECRET'\n",
    "/var/lib/connman/wifi_x_managed_psk/settings": "[SECRET]\nPassphrase=SECRET\nIPv4.method=dhcp\n",
    "/var/lib/dhcpcd/eth1.lease": "root:SECRET:1::::::\n" * 20,
}
JOURNAL = """\
2026-11-21T04:00:00+00:00 web csagent[7]: password: set, and the server was told
2026-11-21T04:00:00+00:00 web csagent[7]: password=SECRET
2026-11-21T04:00:00+00:00 web csagent[7]: secret: SECRET
2026-11-21T04:00:00+00:00 web csagent[7]: my token is SECRET
2026-11-21T04:00:00+00:00 web csagent[7]: pw SECRET
2026-11-21T04:00:00+00:00 web csagent[7]: Exception: SECRET
2026-11-21T04:00:00+00:00 web csagent[7]: SECRET
2026-11-21T04:00:00+00:00 web csagent[7]: curl --api-token SECRET -H 'Authorization: Bearer SECRET'
2026-11-21T04:00:00+00:00 web systemd[1]: /etc/x.conf:2: Invalid environment assignment: Y=SECRET
2026-11-21T04:00:00+00:00 web systemd[1]: Started csagent.service - SECRET.
2026-11-21T04:00:00+00:00 web systemd[1]: csagent.service: Failed with result 'exit-code'.
2026-11-21T04:00:00+00:00 SECRET csagent[7]: applied
2026-11-21T04:00:00+00:00 web chpasswd[8]: SECRET
    SECRET
"""
SAID = {
    "journalctl": JOURNAL,
    "ip -j addr": '[{"ifindex": 2, "ifname": "eth0", "address": "02:00:4c:9f:00:05", "ifalias": "SECRET",'
    ' "addr_info": [{"family": "inet", "local": "10.1.1.42", "label": "SECRET"}]}]',
    "networkctl": '{"Index": 2, "Secret": "SECRET", "Name": "eth0 SECRET", "SECRET": 1, "DHCPv4Client":'
    ' {"Lease": {"Message": {"options": [{"tag": 252, "data": "SECRET"}, {"tag": 54, "data": "SECRET"}]}}}}',
    "nmcli": "DHCP4.OPTION[1]: wpad = SECRET\nDHCP4.OPTION[2]: ip_address = 10.1.1.42\nSECRET\n",
    "dhcpcd": "interface=eth0\nwpad_url=SECRET\nip_address=10.1.1.42\nSECRET\n",
    "systemctl show": "Id=csagent.service\nLoadState=loaded\nActiveState=SECRET\nSubState=SECRET\n"
    "UnitFileState=SECRET\nEnvironment=X=SECRET\nResult=SECRET\nNRestarts=7\n",
    "df": "Filesystem 1024-blocks Used Available Capacity Mounted on\n//server/SECRET 10 1 9 1% /\nSECRET\n",
    "ausearch": 'type=AVC msg=audit(1.0:1): avc:  denied  { write } for  pid=1 comm="csagent" name="SECRET"\n'
    "type=PROCTITLE msg=audit(1): proctitle=SECRET\n",
    "matchpathcon": "/etc/shadow has context SECRET, should be SECRET\nSECRET\n",
}
STATUS = {
    "note": "passwd SECRET",
    "user_data": "SECRET",
    "SECRET": "SECRET",
    "version": "SECRET",
    "instance_id": "id SECRET",
    "data": {
        "password": {"state": "SECRET", "reason": "token SECRET", "source": "SECRET", "secret": "SECRET"},
        "hostname": {"state": "failed", "reason": "Exception: SECRET", "acknowledged": "SECRET"},
    },
    "places": [{"place": "SECRET", "why": "pw SECRET", "outcome": "SECRET", "detail": "token: SECRET"}],
    "refusals": [{"datum": "SECRET", "place": "SECRET", "reason": "my token is SECRET"}],
}


def planted(patient, secret):
    """Put it everywhere."""
    for path, text in FILES.items():
        patient.write(path, text.replace("SECRET", secret))
    (patient.root / "var/lib/dhcpcd/eth0.lease").write_bytes(
        MESSAGE
        + secret.encode().ljust(64, b"\0")
        + secret.encode().ljust(128, b"\0")
        + b"\x63\x82\x53\x63\x35\x01\x05\xfc"
        + bytes([len(secret)])
        + secret.encode()
        + b"\xff"
        + secret.encode()
    )
    key = make_key(1, secret)
    keys = merge(f'command="echo {secret}" {make_key(2, secret)}\n# {secret}\n{secret}\n', [key])
    patient.write("/root/.ssh/authorized_keys", keys)
    for command, text in SAID.items():
        patient.says(command, text.replace("SECRET", secret))
    patient.status = {**(patient.status or {}), **json.loads(json.dumps(STATUS).replace("SECRET", secret))}
    places = tuple(
        Place(*(text.replace("SECRET", secret) for text in texts), 0.1)
        for texts in (
            ("router 10.1.1.1", "token SECRET", "malformed", "Server: SECRET"),
            ("password server SECRET:8080", "DHCP server of eth0", "SECRET", "my token is SECRET"),
            ("drive SECRET", "SECRET", "foreign", "pw SECRET"),
        )
    )
    patient.seen = replace(
        SEEN, places=places, instance_id=f"id {secret}", open_to_all=(secret,), problem=f"token {secret}"
    )
    patient.found = replace(FOUND, notes=(f"{secret} had to be guessed",))
    patient.settings = Settings(drive_labels=("config-2", f"label;{secret}"[:32]))
    patient.outputs.pop("sshd -T", None)
    return keys.split("ssh-ed25519 ")[1].split(" ")[0], keys.split("ssh-ed25519 ")[-1].split(" ")[0]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_of_any_place_gets_out(secret, tmp_path, monkeypatch):
    """Wherever a machine has it, or might: no name and no byte of the archive has it, nor a key."""
    monkeypatch.setattr(raw, "gather", lambda *words: raw._Collected(words[0]).raw(*words[1:]))
    patient = Patient(tmp_path / "machine")
    forbidden = [secret, *planted(patient, secret), secret.encode().hex()]
    assert sum(text.count("SECRET") for text in (*FILES.values(), *SAID.values(), json.dumps(STATUS))) > 170
    said = repr(patient.examined().findings)
    assert secret in said  # there is something to take out
    members = archive_of(patient, tmp_path / "b.tar.gz")
    for name, content in members.items():
        for one in forbidden:
            assert one.encode() not in content and one not in name, (name, content.decode("utf-8", "replace"))
    # What is left still says what there is.
    text = b"".join(members.values())
    assert b"option dhcp-server-identifier 10.1.1.1;" in members["var/lib/dhcp/dhclient.leases"]
    assert b"csagent[7]: password: set, and the server was told\n" in members["_doctor/journal.txt"]
    assert b"Failed with result 'exit-code'." in members["_doctor/journal.txt"]
    assert b"AuthorizedKeysCommand /usr/bin/keys" in members["_doctor/report.txt"]
    assert json.loads(members["_doctor/report.json"])["findings"] and b"redacted" in text
    assert json.loads(members["run/csagent/status.json"])["data"]["hostname"]["state"] == "failed"
