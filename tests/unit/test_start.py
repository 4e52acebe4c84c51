"""How the process that stays is started."""

from __future__ import annotations

import subprocess
import sys

from csagent import cli
from csagent.command_line import build_parser


def test_the_units_command_line_is_the_parsers() -> None:
    """`csagent daemon`, which is not parsed, means what the parser would make of it."""
    assert vars(build_parser().parse_args(cli.AS_THE_UNIT)) == vars(cli.daemon_defaults())


def test_the_process_that_stays_does_without_the_parser() -> None:
    """Neither argparse nor typing is in it: together they are more than a megabyte for as long as it runs."""
    script = (
        "import sys; from csagent import cli, daemon, watch, turn, log; cli.daemon_defaults(); "
        "sys.exit(' '.join({'argparse', 'typing', 'gettext', 'dataclasses', 'inspect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 or not done.stderr.strip(), done.stderr
