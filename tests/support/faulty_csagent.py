"""Runs csagent with a bug in it, at a place that holds a secret.

    python faulty_csagent.py MODULE:FUNCTION WHAT KEY -- ARGUMENTS OF CSAGENT

The function does its work; then WHAT happens: `raise:ExceptionName`, with the secret in the text of the
exception, `signal:NUMBER` to the process that it runs in, or `tell`, which says on standard error whether
this process may dump core. KEY is the secret, disguised, so that it is in no argv.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import os
import resource
import sys

MASK = 0x5A
PR_GET_DUMPABLE = 3  # linux/prctl.h


def disguise(secret):
    return bytes(byte ^ MASK for byte in secret).hex()


def main():
    place, what, key = sys.argv[1:4]
    arguments = sys.argv[5:]
    secret = bytes(byte ^ MASK for byte in bytes.fromhex(key)).decode()
    module_name, name = place.split(":")
    module = importlib.import_module(module_name)
    owner = module
    *outer, name = name.split(".")
    for one in outer:
        owner = getattr(owner, one)
    original = getattr(owner, name)
    verb, _, argument = what.partition(":")

    def sabotaged(*values, **named):
        result = original(*values, **named)
        if verb == "raise":
            raise getattr(builtins, argument)(f"{secret!r}: {values!r} {result!r} {secret}")
        if verb == "signal":
            os.kill(os.getpid(), int(argument))
        if verb == "tell":
            dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
            limit = resource.getrlimit(resource.RLIMIT_CORE)
            sys.stderr.write(f"dumpable {dumpable}, cores {limit}\n")
            sys.stderr.flush()
        return result

    setattr(owner, name, sabotaged)
    from csagent.cli.main import entry

    sys.argv = ["csagent", *arguments]
    entry()


if __name__ == "__main__":
    main()
