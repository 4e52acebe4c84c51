"""Advice about passes, units, user-data, the network, the router, and other agents."""

from __future__ import annotations

from typing import Dict, Tuple

from support.advice_case import CLOUD, HAND, RESTART, SAID, SETTINGS, Case

UNIT, PASS, DATA = (
    ("doctor/checks/units.py",),
    ("doctor/checks/last_pass.py",),
    ("doctor/checks/user_data.py",),
)
PLACE, NETWORK = ("doctor/checks/places.py",), ("doctor/checks/network.py",)
RENEWED = (*PLACE, *NETWORK, "doctor/checks/renewal.py")
OTHER, SCRIPT = ("other_agents/ownership.py",), ("other_agents/guest_scripts.py",)
LEFT = ("other_agents/cloud_init_leftovers.py",)

LEASES = "/run/systemd/netif/leases"
NO_NETWORKD = "systemctl stop systemd-networkd.socket systemd-networkd.service"
NETWORKD = (
    "systemctl start systemd-networkd.socket systemd-networkd.service; networkctl reconfigure eth0; "
    f"for i in $(seq 300); do grep -qs SERVER_ADDRESS {LEASES}/* && exit; sleep 0.1; done"
)
AWAIT = f"for i in $(seq 300); do find {LEASES} -type f"
FIREWALL = (
    "nft 'add table ip test; add chain ip test out {{ type filter hook output priority 0; }}; add rule {}'"
)
ROUTER = "10.1.1.1"
SEAL, TREE = "csagent seal --check 2>&1", "csagent --root /srv/tree doctor"
DROPPED = f"ip test out ip daddr {ROUTER} tcp dport {{}} drop"
NO_FIREWALL = "nft delete table ip test"
FROM_THE_CONSOLE = "; where it has another address now, from the console: networkctl reconfigure eth0"
DATA_FILE, LOG = "/run/csagent/user-data.json", "/var/log/csagent-user-data.log"
AGAIN = "csagent user-data run --again"
ASKS = "wget -q -O - --header 'DomU_Request: send_my_password' data-server:8080"


def put(path: str, text: str, mode: str = "644") -> str:
    """The command that writes a file, its directory too."""
    quoted = text.replace("\\", "\\\\").replace("'", "'\\''").replace("\n", "\\n").replace("%", "%%")
    return f"mkdir -p $(dirname {path}); printf '{quoted}' > {path}; chmod {mode} {path}"


def _look(
    by: Tuple[str, ...],
    advice: str,
    commands: Tuple[str, ...] = (),
    shows: str = "",
    ends: Tuple[int, ...] = (0,),
) -> Case:
    """Advice that is not waited for, since the machine is well."""
    return Case(by, "true", "", "", advice, commands, shows=shows, ends=ends, helps=False)


CONTROL = (
    "Package: cloud-init\nVersion: 22.4\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\n"
    "Description: of a test\n"
)
CLOUD_CFG = (
    "datasource_list: [CloudStack]\ncloud_init_modules: [ssh]\n"
    "system_info:\n  default_user:\n    name: debian\n  distro: debian\n"
)
CLOUD_INIT = "; ".join(
    (
        put("/root/deb/DEBIAN/control", CONTROL),
        put("/root/deb/DEBIAN/conffiles", "/etc/cloud/cloud.cfg\n"),
        put("/root/deb/etc/cloud/cloud.cfg", CLOUD_CFG),
        put("/root/deb/usr/bin/cloud-init", "#!/bin/sh\n", "755"),
        put("/usr/local/bin/wget", "#!/bin/sh\n", "755"),
        "mkdir -p /etc/cloud/cloud.cfg.d; dpkg-deb --build /root/deb >/dev/null; dpkg --install "
        "/root/deb.deb",
    )
)

ROUNDS: Dict[str, Tuple[Case, ...]] = {
    "an older password": (
        Case(
            *(PASS, SAID, "last pass", "password: refused"),
            "csagent apply --force-password",
            before="older",
        ),
    ),
    "no pass since the boot": (
        Case(
            *(PASS, "rm /run/csagent/status.json", "last pass", "none"),
            "systemctl status csagent; journalctl -b -u csagent; csagent apply",
        ),
        Case(
            *(DATA, f"echo [ > {DATA_FILE}", "user-data", f"{DATA_FILE} is damaged"),
            "csagent apply; csagent user-data run",
        ),
    ),
    "keys that have no place": (
        Case(
            *(PASS, f"mv /root/.ssh /root/kept; touch /root/.ssh; {SAID}", "last pass", "ssh_keys: failed"),
            "mend that, then: csagent apply",
            (HAND + "rm /root/.ssh; mv /root/kept /root/.ssh", "csagent apply"),
            before="keys",
        ),
    ),
    "a name that is none": (
        Case(
            *(PASS, SAID, "last pass", "hostname: refused"),
            "journalctl -b -u csagent; csagent plan",
            shows="no host name|hostname: refused",
            helps=False,
            before="no name",
        ),
    ),
    "a key that is cut": (
        Case(
            *(PASS, SAID, "last pass", "ssh_keys: "),
            "csagent -v fetch; register the keys anew in CloudStack where a line of them is broken; "
            "csagent apply",
            ("csagent -v fetch", CLOUD + "keys", "csagent apply"),
            before="a cut key",
        ),
    ),
    "a unit that is masked": (
        Case(
            *(UNIT, "systemctl mask --now csagent", "units", "csagent.service is masked"),
            "systemctl unmask csagent.service && systemctl enable --now csagent.service",
        ),
        Case(
            *(UNIT, "systemctl stop ssh", "units", "ssh.service is inactive"),
            "sshd -t; journalctl -b -u ssh.service; systemctl enable --now ssh.service",
        ),
    ),
    "a unit that is disabled": (
        Case(
            *(UNIT, "systemctl disable csagent", "units", "csagent.service is disabled"),
            "systemctl enable --now csagent.service",
        ),
    ),
    "a unit that is stopped": (
        Case(
            *(UNIT, "systemctl stop csagent", "units", "csagent.service is inactive"),
            "systemctl start csagent.service; journalctl -b -u csagent",
        ),
    ),
    "a unit that was changed": (
        Case(
            *(UNIT, "touch -c /lib/systemd/system/csagent.service", "units", "csagent.service was changed"),
            "systemctl daemon-reload && systemctl restart csagent.service",
        ),
    ),
    "a unit that was started too often": (
        Case(
            UNIT,
            "for i in 1 2 3 4 5 6; do systemctl restart csagent || true; done",
            *("units", "csagent.service is failed"),
            f"journalctl -b -u csagent; {RESTART}",
        ),
    ),
    "wrong settings": (
        Case(
            (*PASS, *UNIT),
            f"echo 'pasword: true' > {SETTINGS}; systemctl restart csagent || true",
            *("settings", 'unknown key "pasword"'),
            f"correct that line, then: {RESTART}",
            (HAND + f"echo 'password: true' > {SETTINGS}", RESTART),
            restored=f"rm -f {SETTINGS}; {RESTART}",
        ),
        Case(
            *(UNIT, "true", "units", "csagent.service is failed"),
            f"csagent discover; then: {RESTART}",
            ("csagent discover", RESTART),
        ),
    ),
    "user-data that has changed": (
        Case(
            *(DATA, "csagent apply", "user-data", "changed"),
            f"{AGAIN} runs all of it",
            (AGAIN,),
            before="user-data",
        ),
    ),
    "user-data that fails": (
        Case(
            *(DATA, f"csagent apply; {AGAIN} || true", "user-data", "failed"),
            f"csagent status; tail -n 50 {LOG}",
            shows="EXAMPLE-it-fails",
            helps=False,
            before="user-data that fails",
        ),
    ),
    "user-data that is none": (
        Case(
            *(DATA, f"csagent apply; {AGAIN} || true", "user-data", "refused"),
            "csagent user-data plan",
            shows="refused|line 2|line 3",
            ends=(0, 1, 3),
            helps=False,
            before="user-data that is none",
        ),
    ),
    "user-data that was cut short": (
        Case(
            *(DATA, f"csagent apply; {AGAIN}; csagent user-data run", "user-data", "interrupted"),
            f"csagent status; tail -n 50 {LOG}; {AGAIN} runs all of it",
            (f"csagent status; tail -n 50 {LOG}", AGAIN),
            before="user-data that is cut short",
        ),
    ),
    "user-data that waits": (
        Case(
            DATA,
            f'sed -i \'s/"state": *"[a-z]*"/"state": "waiting"/\' {DATA_FILE}',
            *("user-data", "waiting"),
            "systemctl status csagent-user-data.path csagent-user-data",
            helps=False,
            restored=AGAIN,
        ),
    ),
    "a NIC without an address": (
        Case(
            NETWORK,
            f"{NO_NETWORKD}; ip addr flush dev eth0",
            *("network", "eth0 (default) no IPv4 address"),
            "have DHCP configured on eth0 and see why nobody answers: journalctl -b | grep -i dhcp",
            ("journalctl -b | grep -i dhcp", HAND + NETWORKD),
            shows="systemd-networkd.*DHCP",
            restored=NETWORKD,
            wait=0,
        ),
        Case(
            *(PLACE, "true", "router", "router (leases and default routes): absent"),
            "see the areas network and leases above: csagent discover",
            ("csagent discover",),
        ),
    ),
    "a lease that is over": (
        Case(
            RENEWED,
            f"cp {LEASES}/* /run/lease; {NO_NETWORKD}; ip addr flush dev eth0; mkdir -p {LEASES}; "
            f"cp /run/lease {LEASES}/$(cat /sys/class/net/eth0/ifindex); touch -d 2024-01-01 {LEASES}/*",
            *("leases", "no lease holds on eth0"),
            "networkctl reconfigure eth0",
            (
                "networkctl reconfigure eth0",
                HAND + f"{AWAIT} -newer /run/lease | grep -q /. && exit; sleep 0.1; done",
            ),
            restored=NETWORKD,
            wait=0,
        ),
    ),
    "no default route": (
        Case(
            *(NETWORK, "ip route del default", "network", "no default route"),
            "ip -4 route; see the DHCP client's log",
            ("ip -4 route",),
            shows="10.1.1.0/24 dev eth0",
            helps=False,
            restored=NETWORKD,
        ),
    ),
    "no cable": (
        Case(
            *(NETWORK, "true", "network", "no carrier"),
            "see in CloudStack that the NIC is plugged and its network implemented; then: ip link",
            (CLOUD + "no cable", "ip link", CLOUD + "cable"),
            shows="eth0.*NO-CARRIER",
            before="no cable",
            restored=NETWORKD,
            wait=0,
        ),
    ),
    "another cloud": (
        Case(
            NETWORK,
            "mkdir -p /run/sys; mount --rbind /sys/class /run/sys; mount -t tmpfs tmpfs /sys/class; "
            "mkdir -p /sys/class/dmi/id /sys/class/net /sys/class/block; "
            "for name in net block; do mount --bind /run/sys/$name /sys/class/$name; done; "
            "echo 'Amazon EC2' > /sys/class/dmi/id/sys_vendor",
            *("platform", "Amazon EC2"),
            "run csagent on CloudStack only: systemctl disable --now csagent",
            (
                "systemctl disable --now csagent",
                HAND + "systemctl show -p ActiveState -p UnitFileState csagent",
            ),
            shows="ActiveState=inactive\nUnitFileState=disabled",
            helps=False,
            restored="umount -R /sys/class; umount -R /run/sys; systemctl enable --now csagent",
        ),
    ),
    "a router that does not answer": (
        Case(
            RENEWED,
            FIREWALL.format(DROPPED.format("80")),
            *("router", f"router {ROUTER}:80"),
            f"ping -c3 {ROUTER}; nft list ruleset; see in CloudStack that the network's virtual router runs"
            f"{FROM_THE_CONSOLE}",
            (f"ping -c3 {ROUTER}", "nft list ruleset", "networkctl reconfigure eth0"),
            shows="dport 80 drop",
            wait=0,
        ),
        Case(
            *(PLACE, "true", "source", "no CloudStack source"),
            "see that the network's virtual router runs (cmk list routers networkid=ID), and that no "
            "firewall of "
            "this VM drops its answers: nft list ruleset",
            ("nft list ruleset", HAND + NO_FIREWALL),
            shows="dport 80 drop",
        ),
    ),
    "a password server that does not answer": (
        Case(
            PLACE,
            FIREWALL.format(DROPPED.format("8080")),
            *("router", f"password server {ROUTER}:8080"),
            f"ping -c3 {ROUTER}; nft list ruleset; then: csagent apply",
            ("nft list ruleset", HAND + NO_FIREWALL, "csagent apply"),
            shows="dport 8080 drop",
        ),
        Case(
            *(PASS, "csagent apply --wait 1 || true", "last pass", "password: unknown"),
            "see the area router above, then: csagent apply",
            ("csagent apply",),
        ),
    ),
    "a router that cannot be reached": (
        Case(
            RENEWED,
            FIREWALL.format(
                f"ip test out ip daddr {ROUTER} meta l4proto tcp reject with icmp host-unreachable"
            ),
            *("router", f"router {ROUTER}:80"),
            f"ip route get {ROUTER}; ip neigh show {ROUTER}{FROM_THE_CONSOLE}",
            (
                f"ip route get {ROUTER}; ip neigh show {ROUTER}",
                HAND + NO_FIREWALL,
                "networkctl reconfigure eth0",
            ),
            shows=f"{ROUTER} dev eth0 src",
            wait=0,
        ),
    ),
    "a page to log in": (
        Case(
            *(PLACE, "true", "router", f"router {ROUTER}:80"),
            f"curl -i http://{ROUTER}:80/latest/instance-id",
            shows="<html>",
            before="a page to log in",
            helps=False,
            wait=0,
        ),
    ),
    "a router that fails": (
        Case(
            *(PLACE, "true", "router", f"router {ROUTER}:80"),
            f"curl -i http://{ROUTER}:80/latest/meta-data/; where that says 500, the router needs a "
            "look at its "
            "/var/www/html/latest/.htaccess",
            (f"curl -i http://{ROUTER}:80/latest/meta-data/",),
            shows="HTTP/1.* 500",
            before="a router that fails",
            helps=False,
            wait=0,
        ),
    ),
    "cloud-init beside": (
        Case(
            *(OTHER, CLOUD_INIT, "other agents", "cloud-init asks CloudStack's password server too"),
            "let csagent ask first: mkdir -p /etc/systemd/system/cloud-init.service.d && printf '[Unit]\\n"
            "Wants=csagent-ready.target\\nAfter=csagent-ready.target\\n' > "
            "/etc/systemd/system/cloud-init.service.d/csagent-first.conf",
            (
                "mkdir -p /etc/systemd/system/cloud-init.service.d && printf "
                "'[Unit]\\nWants=csagent-ready.target\\n"
                "After=csagent-ready.target\\n' > "
                "/etc/systemd/system/cloud-init.service.d/csagent-first.conf",
            ),
            restored="rm -f /usr/local/bin/wget",
        ),
        Case(
            *(OTHER, "true", "other agents", "cloud-init writes CloudStack's keys for debian"),
            f'set "user: debian" in {SETTINGS}, or, in a template: '
            "echo 'allow_public_ssh_keys: false' >> /etc/cloud/cloud.cfg.d/91-no-cloudstack-keys.cfg",
            ("echo 'allow_public_ssh_keys: false' >> /etc/cloud/cloud.cfg.d/91-no-cloudstack-keys.cfg",),
        ),
        Case(
            *(LEFT, "true", "other agents", "cloud-init is still installed"),
            "apt-get purge cloud-init",
            given="y\n",
        ),
    ),
    "what cloud-init has left": (
        Case(
            LEFT,
            f"{CLOUD_INIT}; rm -f /usr/local/bin/wget; apt-get remove -y cloud-init",
            *("other agents", "/etc/cloud is left of cloud-init"),
            "apt-get purge cloud-init; rm -rf /etc/cloud",
            given="y\n",
            restored="rm -r /root/deb /root/deb.deb",
        ),
        Case(
            LEFT,
            "cp /etc/fstab /etc/hosts /root; echo '/dev/vdb /mnt auto defaults,nofail,"
            "x-systemd.requires=cloud-init.service,comment=cloudconfig 0 2' >> /etc/fstab",
            *("other agents", "/etc/fstab is left"),
            "sed -i 's/,\\?x-systemd.requires=cloud-init.service//' /etc/fstab",
            restored="mv /root/fstab /etc/fstab",
        ),
        Case(
            LEFT,
            put("/etc/systemd/network/10-cloud-init-eth9.network", "[Match]\nName=eth9\n"),
            *("other agents", "/etc/systemd/network/10-cloud-init-eth9.network"),
            "rm /etc/systemd/network/10-cloud-init-eth9.network",
        ),
        Case(
            LEFT,
            put("/etc/sudoers.d/90-cloud-init-users", "# Created by cloud-init v. 22.4\n", "440"),
            *("other agents", "/etc/sudoers.d/90-cloud-init-users"),
            "rm /etc/sudoers.d/90-cloud-init-users",
        ),
        Case(
            LEFT,
            "mv /var/lib/csagent/user-data /root/ran; "
            + put("/etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n"),
            *("other agents", "/etc/ssh/sshd_config.d/50-cloud-init.conf"),
            "rm /etc/ssh/sshd_config.d/50-cloud-init.conf",
            restored="mv /root/ran /var/lib/csagent/user-data",
        ),
        Case(
            LEFT,
            "cat >> /root/.ssh/authorized_keys <<'EOF'\ncommand=\"echo 'Please login as the user "
            '\\"debian\\"\';exit"'
            " ssh-ed25519 AAAA x\nEOF",
            *("other agents", "/root/.ssh/authorized_keys is left"),
            "sed -i '/Please login as the user/d' /root/.ssh/authorized_keys",
        ),
        Case(
            LEFT,
            "printf \"# 'manage_etc_hosts' is True\\n127.0.1.1 old.example old\\n127.0.0.1 "
            'localhost\\n" > /etc/hosts',
            *("other agents", "/etc/hosts is left"),
            "sed -i '/^#/d; /^127\\.0\\.1\\.1[[:blank:]]/d' /etc/hosts",
            restored="mv /root/hosts /etc/hosts",
        ),
        Case(
            LEFT,
            put("/etc/apt/apt.conf.d/94cloud-init-config", "APT {};\n"),
            *("other agents", "/etc/apt/apt.conf.d/94cloud-init-config"),
            "rm -r /etc/apt/apt.conf.d/94cloud-init-config",
        ),
        Case(
            LEFT,
            put("/var/lib/cloud/data/instance-id", "i-2-3-VM\n"),
            *("other agents", "/var/lib/cloud is left"),
            "rm -rf /var/lib/cloud",
        ),
    ),
    "the old guest scripts": (
        Case(
            SCRIPT,
            put(
                "/etc/init.d/vm-password",
                f"#!/bin/sh\n### BEGIN INIT INFO\n### END INIT INFO\n{ASKS}\n",
                "755",
            )
            + "; ln -s ../init.d/vm-password /etc/rc2.d/S99vm-password",
            *("other agents", "/etc/init.d/vm-password is still started"),
            "rm /etc/init.d/vm-password; update-rc.d -f vm-password remove",
        ),
        Case(
            SCRIPT,
            put(
                "/etc/systemd/system/cloud-set-guest-sshkey.service",
                "[Service]\nExecStart=/usr/local/bin/x\n[Install]\nWantedBy=multi-user.target\n",
            )
            + "; systemctl enable cloud-set-guest-sshkey.service",
            *("other agents", "/etc/systemd/system/cloud-set-guest-sshkey.service is still"),
            "systemctl disable cloud-set-guest-sshkey.service; "
            "rm /etc/systemd/system/cloud-set-guest-sshkey.service",
        ),
        Case(
            SCRIPT,
            put("/etc/rc.local", "#!/bin/sh\n/opt/cloud-set-guest-password\necho kept\n", "755"),
            *("other agents", "/etc/rc.local is still started"),
            "sed -i '/cloud\\(stack\\)\\?-\\(set-guest\\|get-vm-data\\)\\|get_password_from_domr/d' "
            "/etc/rc.local",
            restored="grep -q kept /etc/rc.local && rm /etc/rc.local",
        ),
        Case(
            *(OTHER, put("/var/vmpasswordmd5sum", "x"), "other agents", "an old guest script remembers"),
            "rm /var/vmpasswordmd5sum",
        ),
        Case(
            OTHER,
            put("/usr/bin/afterburn", "", "755")
            + "; "
            + put(
                "/etc/systemd/system/afterburn-sshkeys.service",
                "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
            )
            + "; systemctl enable afterburn-sshkeys.service",
            *("other agents", "afterburn sets SSH keys too"),
            "disable its units: systemctl list-unit-files 'afterburn*'",
            ("systemctl list-unit-files 'afterburn*'", HAND + "systemctl disable afterburn-sshkeys.service"),
            shows="afterburn-sshkeys.service +enabled",
            restored="rm /usr/bin/afterburn /etc/systemd/system/afterburn-*; systemctl daemon-reload",
        ),
    ),
    "the way to a template": (
        Case(
            ("seal/login.py", "seal/warnings.py"),
            "systemctl disable csagent-host-keys.service; csagent seal --check 2>&1 | grep -q "
            "'nothing makes SSH host'",
            *("", ""),
            "systemctl enable csagent-host-keys.service",
            (
                "systemctl enable csagent-host-keys.service",
                HAND + f"! {SEAL} | grep 'nothing makes SSH host'",
            ),
        ),
        Case(
            *(("seal/warnings.py",), "systemctl disable csagent", "", "", "systemctl enable csagent.service"),
            ("systemctl enable csagent.service", HAND + "systemctl is-enabled csagent"),
        ),
        Case(
            UNIT,
            "mkdir -p /srv/tree/lib/systemd/system; cp /lib/systemd/system/csagent.service "
            "/srv/tree/lib/systemd/system; "
            f"{TREE} | grep -q 'is not enabled'",
            *("", ""),
            "systemctl --root=/srv/tree enable csagent.service",
            (
                "systemctl --root=/srv/tree enable csagent.service",
                HAND + f"{TREE} | grep 'csagent.service is enabled'",
            ),
            restored="rm -r /srv/tree",
        ),
    ),
    # Situations that cannot be made here; the commands look, or do what is done elsewhere in the table.
    "what only looks": (
        _look(("doctor/checks/accounts.py",), "ls -l /etc/shadow; pwck -r", shows="root shadow", ends=(0, 2)),
        _look(
            ("doctor/checks/drive_network.py",),
            "wait for that manager, or see why it does not start: systemctl --failed",
            ("systemctl --failed",),
            shows="loaded units listed",
        ),
        _look(
            NETWORK,
            "add a NIC to the VM in CloudStack, or see: dmesg | grep -i eth; ip link",
            ("dmesg | grep -i eth; ip link",),
            shows="eth0",
        ),
        _look(
            RENEWED,
            "date; where that is right: networkctl reconfigure eth0",
            ("date", "networkctl reconfigure eth0"),
        ),
        _look(NETWORK, "csagent -v discover", shows="eth0"),
        _look(
            PLACE,
            "ip rule; ip route get 10.1.1.1; nft list ruleset",
            ("ip rule; ip route get 10.1.1.1", "nft list ruleset"),
            shows="lookup main[^$]*dev eth0",
        ),
        _look(
            PLACE,
            "as root: csagent doctor, which tries once as root and says whether only root may",
            ("csagent doctor",),
            shows="verdict: ",
        ),
        _look(
            PLACE,
            "compare ip -4 addr with the VM's NICs in CloudStack, and /sys/class/dmi/id/product_uuid "
            "with its id",
            ("ip -4 addr",),
            shows="10.1.1.42/24",
        ),
        _look(
            PLACE,
            "curl -si -H 'DomU_Request: send_my_password' http://10.1.1.1:8080/ | head -n1",
            shows="saved_password|HTTP/1",
        ),
        _look(
            PLACE,
            "csagent -v fetch; compare ip -4 addr with the VM's NICs in CloudStack",
            ("csagent -v fetch", "ip -4 addr"),
            shows="web-01",
        ),
        _look(
            PLACE,
            "csagent -v fetch; ping -c3 -M do -s 1472 10.1.1.1",
            ("ping -c3 -M do -s 1472 10.1.1.1",),
            shows="3 received",
        ),
        _look(PLACE, "blkid; ls -l /dev/disk/by-label", ends=(0, 2)),
        _look(
            PLACE,
            "reset the password in CloudStack once more, then: csagent apply",
            (CLOUD + "password", "csagent apply"),
            shows="password: applied",
        ),
        _look(
            ("doctor/engine.py",),
            "csagent doctor --bundle FILE, and report it",
            ("csagent doctor --bundle FILE", HAND + "tar -tzf FILE; rm FILE"),
            shows="_doctor/report.json",
        ),
        _look(
            ("doctor/engine.py",),
            "see what hangs: dmesg | tail; cat /proc/mounts",
            ("dmesg | tail; cat /proc/mounts",),
            shows="overlay / overlay",
        ),
        _look(("state/cloud_init_status.py",), "journalctl -u csagent.service", shows="csagent"),
    ),
}
