"""What the parser, the settings and the units cannot know.

`this` is typed as it stands, {this} stands for something; a blank line ends a paragraph.
"""

from __future__ import annotations

from typing import Dict, Tuple

Terms = Tuple[Tuple[str, str], ...]

WHAT = """\
csagent runs inside a virtual machine of Apache CloudStack. It finds where CloudStack left the instance's
data (the virtual router that the DHCP lease names, or the config drive) and makes the machine agree with
it: host name, SSH keys and password, at first boot and after every reset. It acts when CloudStack's value
changes: a choice made inside the machine stays.

The service is described in `csagent`(8), the settings in `csagent.yaml`(5).
"""

# Command to what its own help has no room for.
COMMANDS: Dict[str, str] = {
    "csagent discover": """\
It reads local files and contacts nobody. A lease counts only if its own address is on the NIC that it names
now; the others are listed with the reason for which they were left out.
""",
    "csagent fetch": """\
It asks and never acknowledges: a password that is waiting goes on waiting. Under `looked at` stands what
came of every address and every drive.
""",
    "csagent plan": "It contacts the same places as `csagent fetch`, and acknowledges nothing.",
    "csagent apply": """\
The order is: read, set, verify, remember, and then tell the password server that the password is saved. A
pass that is cut short at any step is mended by the next one. It prints what `csagent status` prints.
""",
    "csagent daemon": "This is what `csagent.service` runs. See `csagent`(8).",
    "csagent status": """\
Each datum is `applied` (in this pass), `unchanged` since it was applied, `absent` (CloudStack gives none),
`unknown` (nobody answered), `refused` (not believed, or a stale copy), `off` (by a setting) or `failed`. It
ends with 0 whatever the pass did, and with 1 where no pass has ended yet.
""",
    "csagent query": """\
A list is printed one item a line. The user-data is for root only. A key that the last pass does not know is
exit code 1, and the message names those that it knows.
""",
    "csagent doctor": """\
It goes the way of the data: platform, NICs, leases, routers and password servers, drives, the last pass,
the settings, the account, sshd, other agents, units, disk, SELinux and clock. Each finding says what was
seen, what it means and what to do; the last line says what to do first. It asks the same places as
`csagent fetch`, and acknowledges nothing.

An unpacked archive of `--bundle` is looked at elsewhere with `csagent --root {UNPACKED} doctor` and
`csagent --root {UNPACKED} discover`.
""",
    "csagent network plan": """\
It contacts nobody but the drive and this machine's own daemons. A NIC that is left alone is shown with the
reason: a lease, somebody's file or address, cloud-init.
""",
    "csagent network apply": """\
Every pass does the same. What was applied is looked up in the kernel, and the gateway has to answer; where
it does not and the former one did, the former state comes back, and the same document is not tried again.

Locked out? Remove csagent's file for the NIC, which `csagent network plan` names, and tell its manager:
`networkctl reload`, `nmcli connection reload`, or `ifdown {NIC}` and `ifup {NIC}`. It stays away until
CloudStack's document changes.
""",
    "csagent lab": """\
Nothing of it touches this machine or a cloud: it works in the files that it is given, on loopback.
""",
}

# By their names in csagent.errors.
EXIT_CODES: Dict[str, str] = {
    "EXIT_OK": "Done, or nothing to do.",
    "EXIT_FAILED": "It failed, or something that was looked for is wrong. Standard error says what.",
    "EXIT_USAGE": "The command line or the settings are wrong. Standard error says where.",
    "EXIT_PARTIAL": "Some data were applied, and some failed. `csagent status` says which.",
    "EXIT_NO_SOURCE": """\
No source of CloudStack's was found. On a machine that is not on CloudStack this is as it should be.
""",
}
INTERRUPTED = "130", "Interrupted with Ctrl-C. Run it again to finish."

FILES: Terms = (
    ("`/etc/csagent/csagent.yaml`", "The settings, see `csagent.yaml`(5)."),
    ("`/etc/csagent/conf.d/*.yaml`", "More settings, read afterwards in the order of their names."),
    (
        "`/var/lib/csagent/`",
        """\
What was applied, by instance id, for root only: the names and keys themselves, of passwords salted scrypt
fingerprints, and the last user-data.
""",
    ),
    (
        "`/run/csagent/status.json`",
        "The last pass, for everybody, without secrets. `csagent status --json` prints it.",
    ),
    ("`/run/csagent/instance.json`", "What `csagent query` answers from, for everybody, without secrets."),
    ("`/run/csagent/csagent.prom`", "Figures of the last pass for the textfile collector of node_exporter."),
)
ENVIRONMENT: Terms = (
    ("`COLUMNS`", "The width of the output, where it is not a terminal's."),
    ("`NO_COLOR`, `TERM=dumb`", "No colours. There are none either where the output is no terminal."),
)
EXAMPLES: Terms = (
    (
        "Why did this machine not get its password?",
        """\
csagent doctor
csagent plan
csagent status
""",
    ),
    (
        "What somebody else needs to help, without passwords, keys or user-data:",
        """\
csagent doctor --bundle support.tar.gz
""",
    ),
    (
        "What of this machine does not belong into a template, and then make it one:",
        """\
csagent seal --check
csagent seal --yes --poweroff
""",
    ),
    (
        "The host name that CloudStack says, and a variable of the user-data, in a script:",
        """\
csagent query hostname
csagent query role
""",
    ),
    (
        "Wait at most a minute for the end of the first pass, and look at it with jq:",
        """\
csagent status --wait 60 --json | jq .data.password.state
""",
    ),
    (
        "Set a password that csagent takes for a stale copy:",
        """\
csagent apply --force-password
""",
    ),
    (
        "Ask one router only, or read one drive only:",
        """\
csagent fetch --router 10.1.1.1
csagent fetch --drive /dev/sr1
""",
    ),
    (
        "Look at a mounted image without touching anything outside it:",
        """\
csagent --root /mnt discover
""",
    ),
    (
        "Try all of it without a cloud:",
        """\
csagent lab router --example > cloud.yaml
csagent lab router cloud.yaml --port 8000 --password-port 8081 &
csagent --root scratch fetch --router 127.0.0.1:8000 --password-port 8081
""",
    ),
)

# csagent(8)
SERVICE = """\
`csagent.service` runs `csagent daemon`: a pass as soon as there is a disk to write to, a close look for two
minutes after that, and then a pass whenever something may have changed. Every pass is a process of its own,
which ends; the process that stays is small. What comes from the network or from a drive is parsed by
children without rights, as the system user `csagent`, or as `nobody` where there is no such user.
"""
BOOT = """\
The unit has no default dependencies and is started once local file systems are mounted. It waits for no
network, and nothing is ordered after it: sshd, logins and `multi-user.target` come up whether or not it has
finished.

At first it looks for leases, routers and drives that come late, for two minutes, whenever one of them
appears. Where a config drive of CloudStack's is there, the router gets three seconds, not the whole time.
Where nothing is found it says so once and goes on looking: after 10, 20, 40 ... seconds, up to the setting
`poll`, for ever.

The second boot changes nothing that has not changed in CloudStack.
"""
WAKES: Terms = (
    (
        "drive",
        "A drive with one of the labels came, was exchanged or went. Several events at once make one pass.",
    ),
    ("lease", "A lease was written, or went."),
    ("network", "An address, the default route or a NIC changed."),
    ("clock", "The clock was set, or the machine woke up."),
    ("time", "Every `poll` seconds, give or take a tenth, the router is asked."),
    ("SIGHUP", "`systemctl reload csagent`."),
)
WAKES_SLOWLY = """\
Where something does not tell of its changes it is looked at: CD drives once a minute (a forced eject sends no
event), and every five seconds whatever cannot be listened to, as in a container without udev.
"""
SIGNALS: Terms = (
    (
        "SIGHUP",
        """\
Read the settings again and run a pass now. Settings that are wrong are reported, and the old ones stay.
""",
    ),
    (
        "SIGTERM, SIGINT",
        """\
End. The action that a pass is at comes to its end, the others are left to the next start.
""",
    ),
)
READY_FOR = """\
A unit that needs the keys or the host's name asks for the target; whoever does not name it waits for
nothing:
"""
READY_UNIT = """\
[Unit]
Wants=csagent-ready.target
After=csagent-ready.target
"""
READY_SAYS = """\
It is reached when the first pass has ended, also one that found no source, and after 30 seconds at the
latest. It says that a pass is over, not what came of it; for that, a script runs `csagent status --wait 60
--json`.
"""
HOST_KEYS = """\
`csagent-host-keys.service` runs `ssh-keygen -A` before sshd, where none of the host keys
`/etc/ssh/ssh_host_rsa_key`, `ssh_host_ecdsa_key` and `ssh_host_ed25519_key` is there, or each of them is
empty: on the first boot of an instance whose template was sealed. Where there is one of them it does nothing,
so that a kind of key that was removed, or that cloud-init does not make (its `ssh_genkeytypes`), stays away;
`ssh-keygen -A` by hand makes what is missing. Where sshd's host keys lie elsewhere (`HostKey`), and none of
these is wanted, `systemctl disable csagent-host-keys.service`.
"""
# {watchdog} and {restart} come from the unit.
WATCHDOG = """\
The daemon tells systemd that it goes round; one that stands still for {watchdog} is ended and started anew.
After a failure it is started again ({restart}), but not where the settings are wrong (exit code 2).
"""
STATE = """\
What was applied is remembered by instance id, so that a clone that carries another machine's memory starts
afresh. To forget everything, stop the service and remove `/var/lib/csagent`: the next pass is then a first
one. The state directory of an older version is read; what a newer one wrote and this one does not know is
kept.
"""
JOURNAL = """\
Every decision is one line, with fields to search for. What is as it was is silent, and so is what is
refused, or fails, again for the same reason.
"""
JOURNAL_EXAMPLE = """\
journalctl -u csagent
journalctl CSAGENT_DATUM=password
journalctl CSAGENT_EVENT=failed -o verbose
"""
FIELDS: Terms = (
    ("`CSAGENT_EVENT`", "What happened, see below."),
    ("`CSAGENT_DATUM`", "`hostname`, `ssh_keys`, `password` or `user_data`."),
    ("`CSAGENT_SOURCE`", "The place that the value came from."),
    ("`CSAGENT_INSTANCE`", "The instance id."),
)
# Of CSAGENT_EVENT.
EVENTS: Dict[str, str] = {
    "applied": "The machine was changed.",
    "acknowledged": "The password server was told that the password is saved.",
    "unacknowledged": "It could not be told; the next pass tries again (warning).",
    "no-source": "Nobody gave anything so far. Said once; csagent goes on looking.",
    "refused": "Not believed, or a stale copy: nothing was changed (warning).",
    "doubtful": "A value was not read whole, or nobody answered for it: nothing was taken away (warning).",
    "failed": "A datum could not be applied; without `CSAGENT_DATUM`, a whole pass failed (error).",
    "reload": "The settings were read again, or the old ones stay (then an error).",
    "drive": "A pass begins because of a drive (debug: with -v).",
    "lease": "Because of a lease (debug).",
    "network": "Because of an address, a route or a NIC (debug).",
    "clock": "Because the clock was set (debug).",
}

# csagent.yaml(5)
SETTINGS = """\
All settings are optional, and none of the files need exist. `/etc/csagent/csagent.yaml` is read first and
`/etc/csagent/conf.d/*.yaml` after it, in the order of their names; of a key that is there several times the
last one counts. They are YAML: one `key: value` a line.

An unknown key, a value that cannot be, and a file that is no YAML are errors with the file, the line and
the nearest known key: exit code 2, and nothing is read or changed. After a change, `systemctl reload
csagent`.
"""
SETTINGS_EXAMPLE = """\
# /etc/csagent/conf.d/50-site.yaml
user: alice
sources: [drive]
poll: 0
"""
