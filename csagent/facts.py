"""Classes of facts: declared as with `dataclasses`, at a fiftieth of what that costs a process to start.

`dataclasses` imports inspect, ast and tokenize (11 ms, 2 MiB), and writes and compiles code for each class
(0.4 ms). A process that runs at each boot and makes forty such classes feels that; one that makes an object
in 3 us rather than 0.5 does not. Type checkers see the real thing.

Every class has slots. What csagent does not use is not here: order, `init`, `kw_only`, `__post_init__`, and
a class's own `__eq__` beside a hash.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
else:
    MISSING = object()

    class Field:
        """One field: its name, and what it is where nothing is given."""

        __slots__ = ("compare", "default", "default_factory", "metadata", "name", "repr")

        def __init__(self, default, default_factory, compare, shown, metadata) -> None:
            self.name = ""
            self.default, self.default_factory = default, default_factory
            self.compare, self.repr, self.metadata = compare, shown, metadata or {}

    def field(*, default=MISSING, default_factory=MISSING, compare=True, repr=True, metadata=None):
        """What a class says of one of its fields that is more than a default."""
        return Field(default, default_factory, compare, repr, metadata)

    def dataclass(cls=None, *, frozen=False):
        """Make a class of what its annotations say; `frozen`: nothing can be assigned, and it has a hash."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen)
        if "__post_init__" in cls.__dict__:
            raise TypeError(f"{cls.__name__}: __post_init__ is not called")
        own = [_own_field(cls, name) for name in _annotated(cls)]
        known = {one.name: one for base in cls.__mro__[:0:-1] for one in base.__dict__.get(_FIELDS, ())}
        known.update((one.name, one) for one in own)
        required = [one.default is MISSING and one.default_factory is MISSING for one in known.values()]
        if sorted(required, reverse=True) != required:
            raise TypeError(f"{cls.__name__}: a field without a default stands behind one with a default")
        space = {name: value for name, value in cls.__dict__.items() if name not in _NOT_COPIED}
        for one in own:
            space.pop(one.name, None)  # its default would be in the place of the slot
        space["__slots__"] = tuple(one.name for one in own)
        space[_FIELDS] = tuple(known.values())
        for name, method in (
            ("__init__", _init),
            ("__repr__", _repr),
            ("__eq__", _eq),
            ("__reduce__", _reduce),
        ):
            space.setdefault(name, method)
        if frozen:
            space.update(__setattr__=_refuse, __delattr__=_refuse)
        space.setdefault("__hash__", _hash if frozen else None)
        made = type(cls)(cls.__name__, cls.__bases__, space)
        made.__qualname__ = cls.__qualname__
        return made

    def fields(fact):
        """Those of a class, or of an object of it, in order."""
        return getattr(fact, _FIELDS)

    def is_dataclass(fact):
        """Whether it is such a class, or an object of one."""
        return hasattr(fact, _FIELDS)

    def replace(fact, **changes):
        """The same but for these.

        Raises:
            TypeError: there is no such field.
        """
        same = {one.name: getattr(fact, one.name) for one in fields(fact) if one.name not in changes}
        return type(fact)(**same, **changes)

    def asdict(fact):
        """As a dict, the facts in it too."""
        return {one.name: _plain(getattr(fact, one.name)) for one in fields(fact)}

    _FIELDS = "__fact_fields__"
    _NOT_COPIED = ("__dict__", "__weakref__")

    def _annotated(cls):
        # Up to 3.9 a class without any has its base's.
        own = getattr(cls, "__annotations__", {})
        return [] if own is getattr(cls.__base__, "__annotations__", None) else list(own)

    def _own_field(cls, name):
        given = cls.__dict__.get(name, MISSING)
        if isinstance(given, (list, dict, set)):
            raise TypeError(
                f"{cls.__name__}.{name}: all objects would share it; say field(default_factory=...)"
            )
        one = given if isinstance(given, Field) else Field(given, MISSING, True, True, None)
        one.name = name
        return one

    def _init(self, *given, **named):
        known, put = self.__fact_fields__, object.__setattr__
        if len(given) > len(known):
            raise TypeError(f"{type(self).__name__} has {len(known)} fields, {len(given)} were given")
        for one, value in zip(known, given):
            if one.name in named:
                raise TypeError(f"{type(self).__name__}.{one.name} is given twice")
            put(self, one.name, value)
        for one in known[len(given) :]:
            if one.name in named:
                value = named.pop(one.name)
            elif one.default is not MISSING:
                value = one.default
            elif one.default_factory is not MISSING:
                value = one.default_factory()
            else:
                raise TypeError(f"{type(self).__name__}.{one.name} is missing")
            put(self, one.name, value)
        if named:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(named))}")

    def _values(fact):
        return tuple(getattr(fact, one.name) for one in fact.__fact_fields__ if one.compare)

    def _repr(self):
        shown = (f"{one.name}={getattr(self, one.name)!r}" for one in self.__fact_fields__ if one.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _eq(self, other):
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def _hash(self):
        return hash((type(self), _values(self)))

    def _reduce(self):
        return type(self), tuple(getattr(self, one.name) for one in self.__fact_fields__)

    def _refuse(self, name, *_value):
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: it is a fact")

    def _plain(value):
        if is_dataclass(value):
            return asdict(value)
        if isinstance(value, (tuple, list)):
            return type(value)(map(_plain, value))
        return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


__all__ = ["asdict", "dataclass", "field", "fields", "is_dataclass", "replace"]
