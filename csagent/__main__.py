"""Lets ``python -m csagent`` do what the console script does."""

from csagent.cli.main import entry

entry()
