"""What can go wrong, as a tree.

CsagentError                 one line for the operator, with the exit code it leads to
├── UsageError               the command line asks for something impossible        (2)
│   └── SettingsError        a settings file says something we do not understand   (2)
├── SourceNotFound           no CloudStack source answered                         (4)
├── ProbeError               one place gave nothing: recorded, never fatal
│   ├── ServerFault          the server itself failed (HTTP 500)
│   ├── Absent               the place is there, the thing asked for is not
│   ├── Refused              somebody said no: a TCP reset, a 403
│   ├── TimedOut             nobody said anything in time
│   │   └── Stalled          an answer that began, and then nothing more came of it
│   ├── Unreachable          there is no way to get there
│   ├── Malformed            an answer that means nothing to us
│   │   └── CutShort         one that ends too early
│   └── Foreign              an answer for somebody else: another VM, another cloud
├── Damaged                  what a pass has published is cut short or no JSON     (1)
├── Distrusted               a file that somebody could have written who is not believed
├── ApplyError               the machine could not be changed                      (1)
│   └── StepFailed           a step of user-data failed: recorded, the others go on
├── DocumentError            user-data that cannot be understood: recorded, with its line
└── JailError                a reading child died, overran its limits or lied      (1)
    └── JailTimeout          it was still running at its deadline                  (1)
Interrupted                  told to stop or to reload: never shown to anybody
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_NO_SOURCE = 4


class CsagentError(Exception):
    """An error an operator can act on; ``str()`` of it is one line."""

    exit_code = EXIT_FAILED


class UsageError(CsagentError):
    """The command line asks for something that cannot be done."""

    exit_code = EXIT_USAGE


class SettingsError(UsageError):
    """A settings file is unreadable, malformed or names an unknown key."""


class SourceNotFound(CsagentError):
    """No virtual router and no config drive of CloudStack was found."""

    exit_code = EXIT_NO_SOURCE


class Interrupted(Exception):
    """csagent was told to stop or to reload while it waited, or between two actions: no failure."""


class Damaged(CsagentError):
    """What was published for others is cut short, or not ours; it will be written anew."""


class Distrusted(CsagentError):
    """Somebody who is not believed could have written a file. `path`: the step on the way to it."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.path = path


class ProbeError(CsagentError):
    """One place gave nothing. ``outcome`` is the word that `fetch --json` uses for it.

    ``answered``: something was said, and is not believed; else it is not known what would have been.
    ``temporary``: a later look may do better.
    """

    outcome = "failed"
    answered = False
    temporary = True


class ServerFault(ProbeError):
    """The server failed at every request of a kind, whatever was asked for."""


class Absent(ProbeError):
    """The place answered: what was asked for is not there."""

    outcome = "absent"
    answered = True
    temporary = False


class Refused(ProbeError):
    """The place refused to answer."""

    outcome = "refused"


class TimedOut(ProbeError):
    """The place did not answer before the deadline."""

    outcome = "timeout"


class Stalled(TimedOut):
    """The answer stopped in its middle. `received`: the bytes of its body that came."""

    def __init__(self, received: int) -> None:
        super().__init__(f"no more came in time, after {received} bytes")
        self.received = received


class Unreachable(ProbeError):
    """No route, no such host, no such device."""

    outcome = "unreachable"


class Malformed(ProbeError):
    """The answer cannot be what it should be."""

    outcome = "malformed"
    answered = True
    temporary = False


class CutShort(Malformed):
    """The answer ends before its end: a router writes its files in place, and its disk may be full."""

    temporary = True


class Foreign(ProbeError):
    """The answer is well formed and belongs to another VM or another cloud."""

    outcome = "foreign"
    answered = True
    temporary = False


class ApplyError(CsagentError):
    """The machine could not be changed, or the change did not take."""


class StepFailed(ApplyError):
    """A step of user-data failed.

    `exit` is the status of a command where there was one; `count` how many of how many failed, where a step
    is about several things.
    """

    def __init__(self, text: str, exit: "int | None" = None, count: "tuple[int, int] | None" = None) -> None:
        super().__init__(text)
        self.exit = exit
        self.count = count


class DocumentError(CsagentError):
    """Something in user-data cannot be understood. `line` counts from 1 in its part; None: not known."""

    def __init__(self, text: str, line: "int | None" = None) -> None:
        super().__init__(text)
        self.text = text
        self.line = line


class JailError(CsagentError):
    """A reading child failed; the message never carries anything it read."""


class JailTimeout(JailError):
    """A reading child was killed at its deadline."""
