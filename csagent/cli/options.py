"""Pieces of the command line: the parser, and how its words are understood."""

from __future__ import annotations

import argparse
import os

from csagent.errors import UsageError

TYPE_CHECKING = False  # status and query do without typing, as without most of csagent
if TYPE_CHECKING:
    from typing import Any, NoReturn, Tuple


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> "NoReturn":
        raise UsageError(f"{message} (see {self.prog} --help)")


def formatter(prog: str) -> argparse.HelpFormatter:
    """Help of at most 80 columns; with a width of its own argparse does not import shutil to ask for one."""
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) >= 40 else 80
    return argparse.RawDescriptionHelpFormatter(prog, width=min(width, 80) - 2)


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
    group.add_argument("--router", metavar="HOST[:PORT]", type=_router, help="this virtual router")
    group.add_argument("--password-port", metavar="PORT", type=_port, help="of the password servers (8080)")
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


USER_DATA_EPILOG = """\
exit codes: check: 0 all of it runs, 3 part of it, 1 nothing; run: 0 done or
nothing to do, 3 some steps failed, 1 all of them; 2 usage or settings"""


def with_user_data(command: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """What user-data takes; csagent.cli.user_data_command understands it."""
    command.epilog = USER_DATA_EPILOG
    commands = command.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="user_data", prog="csagent user-data"
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            parents=[shared],
            epilog=USER_DATA_EPILOG,
            formatter_class=formatter,
        )
        return with_json(found)

    metadata = "metadata of the instance, for templates: JSON or YAML, such as local-hostname: web01"
    check = add("check", "what a document would do, and what is wrong with it, by line; needs no root, no VM")
    check.add_argument("file", metavar="FILE", help="the document; - reads standard input")
    check.add_argument("--metadata", metavar="FILE", help=metadata)
    plan = add("plan", "the same for this instance's own document, and what of it has run")
    run = add("run", "run what has not run yet of this instance's document; csagent's units do that")
    run.add_argument("--stage", choices=("early", "final"), help="only this one of the two")
    run.add_argument("--again", action="store_true", help="all of it, also what has run before")
    for one in (plan, run):
        one.add_argument("--document", metavar="FILE", help="another document, by hand: on a scratch machine")
        one.add_argument("--metadata", metavar="FILE", help=metadata)


def _router(text: str) -> Tuple[str, int]:
    host, colon, port = text.partition(":")
    if ":" in port:
        raise argparse.ArgumentTypeError(f"{text!r}: virtual routers have IPv4 addresses only")
    if not host or any(char.isspace() or char == "/" for char in text):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST or HOST:PORT")
    return host, _port(port) if colon else 80


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """A duration of at most a day.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return value
