"""The whole command line."""

from __future__ import annotations

import argparse

from csagent import __version__
from csagent.console import MIN_WIDTH, Console, asked_columns
from csagent.errors import UsageError
from csagent.system.argument_types import port, router, seconds

TYPE_CHECKING = False  # status and query do without typing, as without most of csagent
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, NoReturn, Optional, Sequence

EPILOG = """\
exit codes: 0 done or nothing to do, 1 failed, 2 usage or settings,
3 some data applied and some failed, 4 no CloudStack source found"""

DOCTOR_EPILOG = """\
exit codes: 0 all is well (notes may be there), 1 a problem or a warning,
2 usage, 4 places were asked and none had CloudStack's data for this VM.
-q prints problems and warnings only. --root UNPACKED examines a support
archive and contacts nobody; what is marked (recorded) is as it was found on
the machine."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> "NoReturn":
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Help(argparse.HelpFormatter):
    """Fills each paragraph by itself; a hyphen is no place to break a name."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join("\n".join(Console(width).wrap(one, len(indent))) for one in paragraphs)


def formatter(prog: str) -> argparse.HelpFormatter:
    """Help of at most 80 columns; with a width of its own argparse does not import shutil to ask for one."""
    width = asked_columns() or 80
    return _Help(prog, width=min(max(width, MIN_WIDTH), 80) - 2)


def global_options(parser: argparse.ArgumentParser, root: Any, config: Any, verbose: Any, quiet: Any) -> None:
    """Those that every command takes, with their defaults."""
    parser.add_argument(
        "--root", metavar="DIR", default=root, help="work on the tree below DIR, touching nothing outside it"
    )
    parser.add_argument(
        "--config", metavar="FILE", default=config, help="settings, instead of those in /etc/csagent"
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="count", default=verbose, help="say more")
    volume.add_argument("-q", "--quiet", action="store_true", default=quiet, help="say only what failed")


def with_json(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """A command whose output programs can read."""
    command.add_argument("--json", action="store_true", help="for programs; documented, only grows")
    return command


def with_places(command: argparse.ArgumentParser) -> None:
    """A command that finds and reads."""
    group = command.add_argument_group("places", "naming a router or a drive looks at nothing else")
    group.add_argument("--router", metavar="HOST[:PORT]", type=router, help="this virtual router")
    group.add_argument("--password-port", metavar="PORT", type=port, help="of the password servers (8080)")
    group.add_argument("--drive", metavar="PATH", help="this device, ISO file or directory")
    group.add_argument("--source", choices=("router", "drive"), help="only this one of the two")
    group.add_argument("--wait", metavar="SECONDS", type=seconds, help="wait so long for a source")


SEAL_EPILOG = """\
things, in the order in which they go: package-caches, temporary, mail,
core-dumps, cloud-init, logs, known-hosts, udev-rules, network-identity,
leases, random-seed, credential-secret, hostname, machine-id,
script-markers, csagent, histories, authorized-keys, password, host-keys

exit codes: 0 clean, or done, 1 --check found something or could not look
everywhere, or all failed, 2 usage or settings, 3 some failed or could not
be looked at: they are named, the others are done"""


def with_sealing(seal: argparse.ArgumentParser) -> None:
    """What seal takes; csagent.cli.seal_command understands it."""
    seal.epilog = SEAL_EPILOG
    mode = seal.add_mutually_exclusive_group()
    mode.add_argument("--yes", action="store_true", help="do it; SSH host keys and passwords go last")
    mode.add_argument("--check", action="store_true", help="only look; exit code 1 if anything is left")
    seal.add_argument(
        "--password",
        metavar="WHAT",
        choices=("lock", "expire", "keep"),
        default="lock",
        help="of root and of the setting user: lock (the default; CloudStack's opens it again), "
        "expire (a new one at the first login) or keep",
    )
    seal.add_argument("--hostname", metavar="NAME", help="instead of localhost")
    seal.add_argument("--keep", metavar="THING", action="append", help="leave this alone; may be repeated")
    seal.add_argument(
        "--all-keys", action="store_true", help="also the lines of authorized_keys that are not csagent's"
    )
    seal.add_argument(
        "--poweroff", action="store_true", help="with --yes: then power off without writing anything again"
    )


def _add(commands: Any, name: str, text: str, shared: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """A command with its help, a sentence in its own page, and the options that all commands take."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        parents=[shared],
        epilog=EPILOG,
        formatter_class=formatter,
    )
    return command


def with_networks(network: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """The commands of `csagent network`; csagent.cli.network_command understands them."""
    commands = network.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=network.prog)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = _add(commands, name, text, shared)
        command.set_defaults(run=f"network {name}")
        _with_document(command)
        return with_json(command)

    plan = add("plan", "what would be done with each NIC and why, as a diff; changes nothing")
    plan.add_argument(
        "--machine", metavar="FILE", help="a machine described in JSON or YAML, not the one this runs on"
    )
    apply = add("apply", "do it, look whether it carries, and go back where it does not")
    apply.add_argument(
        "--again", action="store_true", help="also what failed before, or was changed by hand since"
    )


def _with_document(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the document", "the drive's, where none is named")
    group.add_argument("--document", metavar="FILE", help="a network_data.json; - is standard input")
    group.add_argument("--drive", metavar="PATH", help="this device, ISO file or directory")
    group.add_argument("--wait", metavar="SECONDS", type=seconds, help="wait so long for a drive")


CHECK_EPILOG = """\
exit codes: 0 all of it runs, 3 part of it, 1 nothing, 2 usage or settings"""

RUN_EPILOG = """\
exit codes: 0 done or nothing to do, 3 some steps failed, 1 all of them,
2 usage or settings"""


def with_user_data(command: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """What user-data takes; csagent.cli.user_data_command understands it."""
    commands = command.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="user_data", prog="csagent user-data"
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return with_json(_add(commands, name, text, shared))

    metadata = "metadata of the instance, for templates: JSON or YAML, such as local-hostname: web01"
    check = add("check", "what a document would do, and what is wrong with it, by line; needs no root, no VM")
    check.epilog = CHECK_EPILOG
    check.add_argument("file", metavar="FILE", help="the document; - reads standard input")
    check.add_argument("--metadata", metavar="FILE", help=metadata)
    plan = add("plan", "the same for this instance's own document, and what of it has run")
    run = add("run", "run what has not run yet of this instance's document; csagent's units do that")
    run.epilog = RUN_EPILOG
    run.add_argument("--stage", choices=("early", "final"), help="only this one of the two")
    run.add_argument("--again", action="store_true", help="all of it, also what has run before")
    for one in (plan, run):
        one.add_argument("--document", metavar="FILE", help="another document, by hand: on a scratch machine")
        one.add_argument("--metadata", metavar="FILE", help=metadata)


def _with_status_options(status: argparse.ArgumentParser) -> None:
    """What `csagent status` waits for, and how it is shown."""
    status.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        nargs="?",
        const=float("inf"),
        default=0.0,
        help="wait for the first pass and the early stage of user-data to end; at most so long",
    )
    reach = status.add_mutually_exclusive_group()
    reach.add_argument("--user-data", action="store_true", help="with --wait: for all of user-data")
    reach.add_argument("--first-pass", action="store_true", help="with --wait: for none of user-data")
    status.add_argument(
        "--console", action="store_true", help="as one line, which an instance's console is shown"
    )


def build_parser(words: Optional[Sequence[str]] = None) -> argparse.ArgumentParser:
    """The command line, for words that are to be parsed or, without them, all of it.

    Args:
        words: a command that has commands of its own, and is not among these words, is only named: most
            passes and looks at the status need none of them.
    """

    def asked(name: str) -> bool:
        return words is None or name in words

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
        command = _add(commands, name, text, shared)
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
    _with_status_options(with_json(add("status", "what the last pass did, per datum, and why")))
    query = add("query", "one value of the last pass, for scripts")
    query.add_argument(
        "key", metavar="KEY", help="hostname, instance_id, ssh_keys, user_data, network or a metadata key"
    )
    network = add("network", "the NICs as a config drive's network_data.json says")
    if asked("network"):
        with_networks(network, shared)
    doctor = with_json(add("doctor", "what is wrong and what to do about it; changes nothing"))
    with_places(doctor)
    doctor.add_argument(
        "--bundle", metavar="FILE", help="also write a support archive, secrets left out: FILE.tar.gz"
    )
    doctor.epilog = DOCTOR_EPILOG
    with_sealing(with_json(add("seal", "make this machine a clean template; without --yes a preview")))
    user_data = add("user-data", "what user-data does: check a document, look at this instance's, run it")
    if asked("user-data"):
        with_user_data(user_data, shared)
    units = with_json(add("install-units", "systemd units and settings file, after pip install"))
    units.add_argument(
        "--remove", action="store_true", help="take away what it wrote; state and settings stay"
    )
    units.add_argument(
        "--exec", metavar="PATH", help="csagent's console script as the system finds it (the one that runs)"
    )
    text = "a virtual router and config drives to try csagent on, no cloud needed"
    lab_command = _lab_command() if asked("lab") else None
    if asked("lab") and lab_command is None:
        # Its words are not known here: whatever follows is taken, options too, and main says how to get it.
        missing = commands.add_parser("lab", help=text, add_help=False, prefix_chars="\0")
        missing.add_argument("words", nargs="*")
        missing.set_defaults(run="lab")
    else:
        lab = add("lab", text)
        if lab_command is not None:
            lab_command.add_arguments(lab)
    return parser


def _lab_command() -> Optional[ModuleType]:
    """csagent.lab's commands; None where that package is not installed."""
    try:
        import csagent.lab.command
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("csagent.lab"):
            raise
        return None
    return csagent.lab.command
