"""What the operator configured: `/etc/csagent/csagent.yaml` and `/etc/csagent/conf.d/*.yaml`.

All keys are optional and other programs rely on their names. A file in which nothing is said (it is
missing, empty, or all comments, as the packages ship it) does not even cost the import of PyYAML.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from csagent.errors import Distrusted, SettingsError
from csagent.system import trusted_path

if TYPE_CHECKING:
    from csagent.system.seams import System

MAIN_FILE = "/etc/csagent/csagent.yaml"
DROP_INS = "/etc/csagent/conf.d/*.yaml"
SIZE_LIMIT = 1 << 20
EVENT_LIMIT = 10_000
DEPTH_LIMIT = 64
SCALAR_LIMIT = 4_000
PIPE_SECONDS = 2.0
MAX_WAIT = 3600.0
MIN_POLL = 0.1
MAX_POLL = 7 * 24 * 3600.0
SWITCH = "true or false"
OWNERS = ("auto", "csagent", "cloud-init")

# Not the names that a medium gives itself: whoever makes a loop device chooses its label.
_DEVICE = re.compile(r"/dev/(?!disk/by-(label|uuid|part))[A-Za-z0-9._:@+=/-]{1,200}\Z", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?\Z", re.ASCII)


class Settings(NamedTuple):
    """The settings, at their defaults. TABLE says what each may be, and what it means."""

    user: str = "root"
    sources: Tuple[str, ...] = ("router", "drive")
    hostname: bool = True
    ssh_keys: bool = True
    password: bool = True
    network: bool = True
    cloud_init: str = "auto"
    drive_labels: Tuple[str, ...] = ("config-2",)
    drive_devices: Tuple[str, ...] = ()
    wait: float = 10.0
    poll: float = 300.0
    create_user: bool = False
    user_data: str = "run"

    def as_plain(self) -> Dict[str, Any]:
        """What `from_plain` makes the same settings of, for another process."""
        return self._asdict()

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Settings":
        """The settings of `as_plain`, after JSON."""
        values: Dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in plain.items()
        }
        return cls(**values)


def as_yaml(value: Any) -> str:
    """A setting as one writes it in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(str(one) for one in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def load(system: "System", config: Optional[str] = None) -> Settings:
    """Read the settings.

    Args:
        system: whose `/etc/csagent` to read.
        config: a file given on the command line, read instead of the two usual places.

    Raises:
        SettingsError: names the file, the line, and for an unknown key the nearest known one.
    """
    settings = Settings()
    for shown, raw in _files(system, config):
        if _says_something(raw):
            settings = _merge(settings, _mapping(raw, shown), shown)
    return settings


def _files(system: "System", config: Optional[str]) -> Iterator[Tuple[str, bytes]]:
    if config is not None:
        try:
            yield config, _given(config)
        except OSError as error:
            raise SettingsError(f"--config {config}: {error.strerror}") from None
        return
    for path in [MAIN_FILE, *system.tree.glob(DROP_INS)]:
        try:
            raw = trusted_path.read(system, path, trusted_path.ROOT, SIZE_LIMIT + 1)
        except FileNotFoundError:
            continue
        except Distrusted as error:
            raise SettingsError(f"{system.tree.shown(path)} says whom root obeys, and {error}") from None
        except OSError as error:
            raise SettingsError(f"{system.tree.shown(path)}: cannot be read ({error.strerror})") from None
        yield system.tree.shown(path), raw


def _given(path: str) -> bytes:
    """The file named on the command line; the shell's ``<(...)`` is a pipe, which may never say anything."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return stream.read(SIZE_LIMIT + 1)
        return _piped(stream.fileno())


def _piped(descriptor: int) -> bytes:
    """What comes out of a pipe or a device within `PIPE_SECONDS`.

    Raises:
        OSError: it does not end by then, or nobody writes to it.
    """
    import errno
    import select
    import time

    raw = b""
    end = time.monotonic() + PIPE_SECONDS
    while len(raw) <= SIZE_LIMIT:
        ready = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]
        if not ready:
            raise OSError(errno.ETIMEDOUT, f"no end of it within {PIPE_SECONDS:g} s")
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        raw += piece
    if not raw and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        raise OSError(errno.EPIPE, "a pipe that nobody writes to")
    return raw


def _says_something(raw: bytes) -> bool:
    return any(
        line.strip() and not line.lstrip().startswith((b"#", b"---", b"...")) for line in raw.splitlines()
    ) or any(line.startswith(b"--- ") for line in raw.splitlines())


def _mapping(raw: bytes, shown: str) -> Dict[str, Tuple[Any, int]]:
    """Parse one file into key -> (value, line), after a budget has been kept.

    Without one 434 bytes of merge keys cost 17 seconds in `safe_load`, and deep nesting crashes the C loader
    (field/dependencies#6).
    """
    try:
        import yaml
    except ImportError:
        raise SettingsError(
            f"{shown}: PyYAML is not installed (python3-yaml), and the file says something"
        ) from None

    if len(raw) > SIZE_LIMIT:
        raise SettingsError(f"{shown}: larger than {SIZE_LIMIT} bytes")
    depth = 0
    try:
        for count, event in enumerate(yaml.parse(raw, Loader=yaml.SafeLoader)):
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.AliasEvent):
                raise SettingsError(f"{shown}, line {line}: aliases (*name) are not for settings")
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > SCALAR_LIMIT:
                raise SettingsError(f"{shown}, line {line}: a value of more than {SCALAR_LIMIT} characters")
            if count > EVENT_LIMIT or depth > DEPTH_LIMIT:
                raise SettingsError(f"{shown}, line {line}: too large or too deep for settings")
        node = yaml.compose(raw, Loader=yaml.SafeLoader)
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise SettingsError(f'{shown}, line {node.start_mark.line + 1}: expected lines like "user: root"')
        loader = yaml.SafeLoader(b"")
        result: Dict[str, Tuple[Any, int]] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = loader.construct_object(key_node, deep=True)
            value = loader.construct_object(value_node, deep=True)
            if not isinstance(key, str):
                raise SettingsError(f"{shown}, line {line}: a key must be a word")
            if key in result:
                raise SettingsError(f'{shown}, line {line}: "{key}" is there twice')
            result[key] = (value, line)
        return result
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{shown}{where}: {error.problem or 'not YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError, MemoryError) as error:
        raise SettingsError(f"{shown}: not YAML that we can read ({type(error).__name__})") from None


def _merge(settings: Settings, mapping: Dict[str, Tuple[Any, int]], shown: str) -> Settings:
    known = {one.name: one for one in TABLE}
    changes: Dict[str, Any] = {}
    for key, (value, line) in mapping.items():
        if key not in known:
            import difflib

            nearest = difflib.get_close_matches(key, sorted(known), 1, 0.5)
            hint = f'did you mean "{nearest[0]}"?' if nearest else f"known keys: {', '.join(sorted(known))}"
            raise SettingsError(f'{shown}, line {line}: unknown key "{key[:60]}"; {hint}')
        try:
            changes[key] = known[key].convert(value)
        except ValueError as error:
            raise SettingsError(f"{shown}, line {line}: {key}: {error}") from None
    return settings._replace(**changes)


def _account(value: Any) -> str:
    if not isinstance(value, str) or not _ACCOUNT.match(value):
        raise ValueError("must be the name of an account, such as root")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _user_data(value: Any) -> str:
    if value is True or value is False:
        return "run" if value else "false"
    if value not in ("run", "keep"):
        raise ValueError("must be run, keep or false")
    return str(value)


def _owner(value: Any) -> str:
    if value not in OWNERS:
        raise ValueError("must be auto, csagent or cloud-init")
    return str(value)


def _sources(value: Any) -> Tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if (
        not isinstance(names, list)
        or not names
        or not all(name in ("router", "drive") for name in names)
        or len(set(names)) != len(names)
    ):
        raise ValueError("must be a list of router and drive, each at most once, at least one of them")
    return tuple(names)


def _labels(value: Any) -> Tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= 16
        or not all(isinstance(name, str) and 0 < len(name) <= 32 for name in names)
    ):
        raise ValueError("must be a list of volume labels, such as [config-2], of at most 32 characters each")
    return tuple(names)


def _devices(value: Any) -> Tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if (
        not isinstance(names, list)
        or len(names) > 16
        or not all(isinstance(name, str) and _DEVICE.match(name) and ".." not in name for name in names)
    ):
        raise ValueError(
            "must be a list of at most 16 devices, such as [/dev/loop0], and not by their labels"
        )
    return tuple(names)


def seconds_between(low: float, high: float) -> Callable[[Any], float]:
    """A converter to a number of seconds; raises ValueError outside of the range."""

    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return float(value)

    return convert


def _poll(value: Any) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    return seconds_between(MIN_POLL, MAX_POLL)(value)


class Setting(NamedTuple):
    """A row of csagent.yaml(5), of the packages' csagent.yaml, of the documentation and of a support archive.

    `convert` takes what YAML gives, and raises ValueError with what it must be. `kind` says that in the
    manual, `meaning` what it does.
    """

    name: str
    convert: Callable[[Any], Any]
    kind: str
    meaning: str

    @property
    def default(self) -> Any:
        """The value where no file says one."""
        return Settings._field_defaults[self.name]


TABLE: Tuple[Setting, ...] = (
    Setting(
        "user",
        _account,
        "name of an account",
        "The account that gets the password and the SSH keys. It must exist, or see create_user.",
    ),
    Setting(
        "create_user",
        _switch,
        SWITCH,
        "Make the account in user where it does not exist, as cloud images do: with a home directory, bash, "
        "and the right to become root without a password. User-data is what makes it.",
    ),
    Setting(
        "sources",
        _sources,
        "list of router and drive",
        "Where to look, in order of trust. Leaving one out turns it off.",
    ),
    Setting("hostname", _switch, SWITCH, "Set the host name. false: leave it alone."),
    Setting("ssh_keys", _switch, SWITCH, "Write the SSH keys. false: leave them alone."),
    Setting("password", _switch, SWITCH, "Set the password. false: leave it alone."),
    Setting(
        "network",
        _switch,
        SWITCH,
        "Configure NICs as a config drive says. false: leave them alone.",
    ),
    Setting(
        "user_data",
        _user_data,
        "run, keep or false",
        "run: carry the user-data out, once for an instance. keep: only keep a copy for root. false: not "
        "even that.",
    ),
    Setting(
        "cloud_init",
        _owner,
        "auto, csagent or cloud-init",
        "Who sets these where cloud-init works with CloudStack's data too. auto: the host name is "
        "left to cloud-init where that manages it, keys and password are csagent's; csagent or "
        "cloud-init: that one does all three.",
    ),
    Setting(
        "drive_labels",
        _labels,
        "list of labels",
        "Volume labels of config drives (CloudStack's vm.configdrive.label), in upper or lower case.",
    ),
    Setting(
        "drive_devices",
        _devices,
        "list of paths in /dev",
        "Devices that may be config drives although they are no CD drive or disk of a hypervisor, such as "
        "loop and device-mapper ones. Each needs the label, too.",
    ),
    Setting(
        "wait",
        seconds_between(0, MAX_WAIT),
        f"seconds, 0 to {MAX_WAIT:g}",
        "Seconds that fetch, plan and apply wait for a source. The service never gives up.",
    ),
    Setting(
        "poll",
        _poll,
        f"seconds, {MIN_POLL:g} to {MAX_POLL:g}, or 0",
        "Seconds between the service's looks at the virtual router, give or take a tenth. 0: never.",
    ),
)
