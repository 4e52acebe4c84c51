"""`csagent lab`: the router, the drive builder, the demo, and the test of templates."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The lab's own commands."""
    from csagent.lab import demo, drive, router_command
    from csagent.lab.vm import command as vm

    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module, text in (
        ("router", router_command, "a virtual router on loopback, fed from one YAML or JSON file"),
        ("drive", drive, "build a config drive, laid out as CloudStack's"),
        ("demo", demo, "the main job on a router and a drive of its own, shown step by step"),
        ("vm", vm, "boot copies of a template on the lab's router and drive, and judge what it promises"),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            formatter_class=parser.formatter_class,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
