"""Advice about cloud-init, what it has left, and the guest scripts before csagent."""

from __future__ import annotations

from typing import Dict, Tuple

from support.advice_case import DATA, HAND, PASS, SAID, SETTINGS, Case

OTHER, SCRIPT = ("other_agents/ownership.py",), ("other_agents/guest_scripts.py",)
LEFT = ("other_agents/cloud_init_leftovers.py",)

LOG = "/var/log/csagent-user-data.log"
AGAIN = "csagent user-data run --again"
ASKS = "wget -q -O - --header 'DomU_Request: send_my_password' data-server:8080"


def put(path: str, text: str, mode: str = "644") -> str:
    """The command that writes a file, its directory too."""
    quoted = text.replace("\\", "\\\\").replace("'", "'\\''").replace("\n", "\\n").replace("%", "%%")
    return f"mkdir -p $(dirname {path}); printf '{quoted}' > {path}; chmod {mode} {path}"


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

SCRIPTS = "^[^#]*(DomU_Request|cloud(stack)?-(set-guest|get-vm-data)|get_password_from_domr)"
LINES = f"grep -nE '{SCRIPTS}' /etc/rc.local"
LOOK = "sshd -T | grep passwordauthentication"

ROUNDS: Dict[str, Tuple[Case, ...]] = {
    "the old guest scripts, a name that is none, and user-data that fails": (
        Case(
            *(PASS, SAID, "last pass", "hostname: refused"),
            "journalctl -b -u csagent; csagent plan",
            shows="no host name|hostname: refused",
            helps=False,
            before="no name",
        ),
        Case(
            *(DATA, f"csagent apply; {AGAIN} || true", "user-data", "failed"),
            f"csagent status; tail -n 50 {LOG}",
            shows="EXAMPLE-it-fails",
            helps=False,
            before="user-data that fails",
        ),
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
            f"take out all that belongs to these lines: {LINES}",
            (LINES, HAND + "sed -i '/-set-guest-/d' /etc/rc.local"),
            shows="2:/opt/cloud-set-guest-password",
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
            "apt-get remove cloud-init",
            given="y\n",
        ),
    ),
    "what cloud-init has left": (
        Case(
            LEFT,
            f"{CLOUD_INIT}; rm -f /usr/local/bin/wget; apt-get remove -y cloud-init",
            *("other agents", "/etc/cloud is left of cloud-init"),
            "rm -rf /etc/cloud",
        ),
        Case(*(LEFT, "true", "", ""), "apt-get purge cloud-init; rm -rf /etc/cloud", given="y\n"),  # seal
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
            *("", ""),  # seal
            "rm /etc/systemd/network/10-cloud-init-eth9.network",
        ),
        Case(
            LEFT,
            put(
                "/etc/sudoers.d/90-cloud-init-users",
                "# Created by cloud-init v. 22.4\n\ndebian ALL=(ALL) NOPASSWD:ALL\n",
                "440",
            ),
            *("other agents", "/etc/sudoers.d/90-cloud-init-users"),
            "take out the lines of others: grep -n '^[^#]' /etc/sudoers.d/90-cloud-init-users",
            (
                "grep -n '^[^#]' /etc/sudoers.d/90-cloud-init-users",
                HAND + "rm /etc/sudoers.d/90-cloud-init-users",
            ),
            shows="3:debian ALL",
        ),
        Case(
            LEFT,
            "mv /var/lib/csagent/user-data /root/ran; "
            + put("/etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n"),
            *("other agents", "/etc/ssh/sshd_config.d/50-cloud-init.conf"),
            f"{LOOK}; let another file say what is to stay before this one goes",
            (LOOK,),
            shows="passwordauthentication yes",
            restored="mv /root/ran /var/lib/csagent/user-data",
        ),
        Case(*(LEFT, "true", "", ""), "rm /etc/ssh/sshd_config.d/50-cloud-init.conf"),  # seal
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
            "sed -i '/^#/d; /^127\\.0\\.1\\.1[[:blank:]]/{/# csagent[[:blank:]]*$/!d}' /etc/hosts",
            restored="mv /root/hosts /etc/hosts",
        ),
        Case(*(LEFT, "true", "", ""), "sed -i '/^#/d' /etc/hosts"),
        Case(
            LEFT,
            put("/etc/apt/apt.conf.d/94cloud-init-config", "APT {};\n"),
            *("other agents", "/etc/apt/apt.conf.d/94cloud-init-config"),
            "rm -r /etc/apt/apt.conf.d/94cloud-init-config",
        ),
        Case(
            LEFT,
            put("/var/lib/cloud/data/instance-id", "i-2-3-VM\n"),
            *("", ""),  # seal
            "rm -rf /var/lib/cloud",
        ),
    ),
}
