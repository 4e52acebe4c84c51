"""Lets ``python -m csagent`` do what the console script does."""

import sys

from csagent.cli import main

sys.exit(main())
