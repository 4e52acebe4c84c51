"""The whole command line. Its pieces are in `csagent.cli.options`."""

from __future__ import annotations

import argparse

from csagent import __version__
from csagent.cli.options import (
    Parser,
    formatter,
    global_options,
    seconds,
    with_json,
    with_places,
    with_sealing,
    with_user_data,
)

EPILOG = """\
exit codes: 0 done or nothing to do, 1 failed, 2 usage or settings,
3 some data applied and some failed, 4 no CloudStack source found"""

DOCTOR_EPILOG = """\
exit codes: 0 all is well (notes may be there), 1 a problem or a warning,
2 usage, 4 places were asked and none had CloudStack's data for this VM.
-q prints the problems only. --root UNPACKED examines a support archive as
the machine it is of, and contacts nobody."""


def build_parser(with_lab: bool = True) -> argparse.ArgumentParser:
    """The whole command line. `with_lab` false leaves out the lab's own options, and their imports."""
    parser = Parser(
        prog="csagent",
        description="The guest agent for Apache CloudStack: makes hostname, SSH keys and\n"
        "password what CloudStack says, and explains what it did.",
        epilog=EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"csagent {__version__}")
    global_options(parser, "/", None, 0, False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="csagent")
    shared = Parser(add_help=False, formatter_class=formatter)
    # Also accepted behind the command; SUPPRESS keeps a value given before it.
    global_options(shared, *[argparse.SUPPRESS] * 4)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            parents=[shared],
            epilog=EPILOG,
            formatter_class=formatter,
        )
        command.set_defaults(run=name)
        return command

    with_json(add("discover", "where csagent would look and why; contacts nobody"))
    fetch = with_json(add("fetch", "what CloudStack says about this VM, never acknowledging"))
    with_places(fetch)
    fetch.add_argument("--show-secrets", action="store_true", help="show the password (root only)")
    fetch.add_argument(
        "--save",
        metavar="DIR",
        help="write what was read below DIR, mode 0600; the password only with --show-secrets",
    )
    plan = with_json(add("plan", "what apply would do and why, as a diff; changes nothing"))
    with_places(plan)
    apply = with_json(add("apply", "one pass, now: hostname, SSH keys and password; tells CloudStack last"))
    with_places(apply)
    for command in (plan, apply):
        command.add_argument(
            "--force-password", action="store_true", help="set an offered password even if it is an older one"
        )
    daemon = add("daemon", "a pass at start, then whenever there is something new; for systemd")
    with_places(daemon)
    status = with_json(add("status", "what the last pass did, per datum, and why"))
    status.add_argument(
        "--wait", metavar="SECONDS", type=seconds, default=0.0, help="wait so long for the first pass to end"
    )
    query = add("query", "one value of the last pass, for scripts")
    query.add_argument(
        "key", metavar="KEY", help="hostname, instance_id, ssh_keys, user_data, network or a metadata key"
    )
    doctor = with_json(add("doctor", "what is wrong and what to do about it; changes nothing"))
    with_places(doctor)
    doctor.add_argument(
        "--bundle", metavar="FILE", help="also write a support archive, secrets left out: FILE.tar.gz"
    )
    doctor.epilog = DOCTOR_EPILOG
    with_sealing(with_json(add("seal", "make this machine a clean template; without --yes a preview")))
    with_user_data(
        add("user-data", "what user-data does: check a document, look at this instance's, run it"), shared
    )
    units = with_json(add("install-units", "systemd units and settings file, after pip install"))
    units.add_argument(
        "--remove", action="store_true", help="take away what it wrote; state and settings stay"
    )
    units.add_argument(
        "--exec", metavar="PATH", help="csagent's console script as the system finds it (the one that runs)"
    )
    lab = add("lab", "a virtual router and config drives to try csagent on, no cloud needed")
    if with_lab:
        from csagent.lab import command as lab_command

        lab_command.add_arguments(lab)
    return parser
