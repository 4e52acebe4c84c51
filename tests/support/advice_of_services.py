"""Advice about passes, units, settings and user-data, and of seal."""

from __future__ import annotations

from typing import Dict, Tuple

from support.advice_case import CLOUD, DATA, HAND, OWNER, PASS, RELOAD, RESTART, SAID, SETTINGS, Case, look

UNIT = ("doctor/checks/units.py",)

SEAL, TREE = "csagent seal --check 2>&1", "csagent --root /srv/tree doctor"
DATA_FILE, LOG = "/run/csagent/user-data.json", "/var/log/csagent-user-data.log"
AGAIN = "csagent user-data run --again"

ROUNDS: Dict[str, Tuple[Case, ...]] = {
    "an older password, and units that are masked or stopped": (
        Case(
            *(PASS, SAID, "last pass", "password: refused"),
            "csagent apply --force-password",
            before="older",
        ),
        Case(
            *(UNIT, "systemctl mask --now csagent", "units", "csagent.service is masked"),
            "systemctl unmask csagent.service && systemctl enable --now csagent.service",
        ),
        Case(
            *(UNIT, "systemctl stop ssh", "units", "ssh.service is inactive"),
            "mkdir -p /run/sshd; sshd -t; journalctl -b -u ssh.service; systemctl enable --now ssh.service",
        ),
    ),
    "sshd is masked": (
        Case(
            *(UNIT, "systemctl disable --now ssh; systemctl mask ssh", "units", "ssh.service is masked"),
            "systemctl unmask ssh.service && systemctl enable --now ssh.service",
        ),
        Case(
            *(("doctor/checks/sshd.py",), f"sed -i s/yes/no/ {OWNER}", "sshd", "PermitRootLogin no"),
            f"write PermitRootLogin yes in {OWNER}, line 1; then: {RELOAD}; or name another account in the "
            "setting user",
            (HAND + f"sed -i s/no/yes/ {OWNER}; systemctl stop ssh", RELOAD, HAND + "systemctl start ssh"),
        ),
    ),
    "keys that have no room, and a unit that was started too often": (
        Case(
            ("doctor/finding.py",),
            "cp -p /root/.ssh/authorized_keys /root/kept; "
            f"yes '# of the owner' | head -c 1100000 >> /root/.ssh/authorized_keys; {SAID}",
            *("last pass", "ssh_keys: failed"),
            "mend that, then: csagent apply",
            (HAND + "mv /root/kept /root/.ssh/authorized_keys", "csagent apply"),
            before="keys",
        ),
        Case(
            UNIT,
            "for i in 1 2 3 4 5 6; do systemctl restart csagent || true; done",
            *("units", "csagent.service is failed"),
            f"journalctl -b -u csagent; {RESTART}",
        ),
    ),
    "a key that is cut, and a unit that is stopped": (
        Case(
            *(PASS, SAID, "last pass", "ssh_keys: "),
            "csagent -v fetch; register the keys anew in CloudStack where a line of them is broken; "
            "csagent apply",
            ("csagent -v fetch", CLOUD + "keys", "csagent apply"),
            before="a cut key",
        ),
        Case(
            *(UNIT, "systemctl stop csagent", "units", "csagent.service is inactive"),
            "systemctl start csagent.service; journalctl -b -u csagent",
        ),
    ),
    "a unit that was changed, and user-data that waits": (
        Case(
            *(UNIT, "touch -c /lib/systemd/system/csagent.service", "units", "csagent.service was changed"),
            "systemctl daemon-reload && systemctl restart csagent.service",
        ),
        Case(
            DATA,
            f'sed -i \'s/"state": *"[a-z]*"/"state": "waiting"/\' {DATA_FILE}',
            *("user-data", "waiting"),
            "systemctl status csagent-user-data.path csagent-user-data",
            helps=False,
            restored=AGAIN,
        ),
    ),
    "a pass at a clock that was ahead": (
        Case(
            PASS,
            f"{SAID}; sed -i -E 's/(\"finished\": *)[0-9.]+/\\14773600000.0/' /run/csagent/status.json",
            *("last pass", "2121-04-09 00:00:00 UTC, which is still to come"),
            "date; where that is right: csagent apply; else: timedatectl; timedatectl set-ntp true; "
            "where no time server answers: timedatectl set-ntp false; "
            "timedatectl set-time 'YYYY-MM-DD hh:mm:ss'",
            ("date", "csagent apply"),
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
    "a unit that is disabled": (
        Case(
            *(UNIT, "systemctl disable csagent", "units", "csagent.service is disabled"),
            "systemctl enable --now csagent.service",
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
    "settings that are somebody's": (
        Case(
            PASS,
            f"echo 'password: true' > {SETTINGS}; chown nobody {SETTINGS}",
            *("settings", "says whom root obeys"),
            f"namei -l {SETTINGS}; mend what is said of it, then: {RESTART}",
            (f"namei -l {SETTINGS}", HAND + f"chown root: {SETTINGS}", RESTART),
            shows="nobody .* csagent.yaml",
            restored=f"rm -f {SETTINGS}; {RESTART}",
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
    "user-data that runs": (
        Case(
            DATA,
            "csagent apply; systemd-run --quiet --unit=slow csagent user-data run --again; "
            "until grep -q EXAMPLE-slow /var/log/csagent-user-data.log; do sleep 1; done",
            *("user-data", "running"),
            f"tail -f {LOG}",
            (HAND + "(sleep 3; pkill -x tail) >/dev/null 2>&1 &", f"tail -f {LOG}"),
            shows="EXAMPLE-slow",
            ends=(0, 143),
            helps=False,
            before="user-data that is slow",
            restored="systemctl kill --signal=KILL slow; systemctl reset-failed slow",
        ),
    ),
    "user-data whose run was killed": (
        Case(
            DATA,
            f"csagent apply; {AGAIN} || true",
            *("user-data", "running, but no run of it is under way"),
            f"csagent user-data run; csagent status; tail -n 50 {LOG}",
            ("csagent user-data run", f"csagent status; tail -n 50 {LOG}"),
            shows="interrupted",
            ends=(0, 1, 3),
            before="user-data that is cut short",
            restored="rm -f /run/once",
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
    "what only looks at the machine": (
        look(("doctor/checks/accounts.py",), "ls -l /etc/shadow; pwck -r", shows="root shadow", ends=(0, 2)),
        look(
            ("doctor/checks/drive_network.py",),
            "wait for that manager, or see why it does not start: systemctl --failed",
            ("systemctl --failed",),
            shows="loaded units listed",
        ),
        look(
            ("doctor/engine.py",),
            "csagent doctor --bundle FILE, and report it",
            ("csagent doctor --bundle FILE", HAND + "tar -tzf FILE; rm FILE"),
            shows="_doctor/report.json",
        ),
        look(
            ("doctor/context.py",),
            "see what hangs: dmesg | tail; cat /proc/mounts",
            ("dmesg | tail; cat /proc/mounts",),
            shows="overlay / overlay",
        ),
        look(("state/cloud_init_status.py",), "journalctl -u csagent.service", shows="csagent"),
    ),
}
