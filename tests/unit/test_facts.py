"""Classes of facts behave as those of `dataclasses`, whose import they save."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, Dict, List, Optional, Tuple

import pytest
from alone import printed
from hypothesis import given
from hypothesis import strategies as st

from csagent import facts
from csagent.model import Lease, Secret
from csagent.settings import Settings

KINDS = (facts, dataclasses)


def base(kind: Any) -> Any:
    """A frozen class, made with either."""

    @kind.dataclass(frozen=True)
    class Base:
        """What it is."""

        name: str
        size: int = 3

        changes = False

        @property
        def double(self) -> int:
            return self.size * 2

    return Base


def derived(kind: Any) -> Any:
    """One that adds to it."""

    @kind.dataclass(frozen=True)
    class Derived(base(kind)):  # type: ignore[misc]
        """What it is."""

        more: Tuple[Any, ...] = ()
        about: Dict[str, Any] = kind.field(default_factory=dict)
        hidden: Optional[str] = kind.field(default="x", repr=False)
        cached: Any = kind.field(default=None, compare=False)

        changes = True

    return Derived


def thing(kind: Any) -> Any:
    """One that can be changed."""

    @kind.dataclass
    class Thing:
        """What it is."""

        items: List[int] = kind.field(default_factory=list)
        at: float = 0.0

    return Thing


def test_import_is_light() -> None:
    """Nothing comes with it: neither dataclasses nor what that brings."""
    (names,) = printed(
        "before = set(sys.modules)\nimport csagent.facts\nprint(*sorted(set(sys.modules) - before))"
    )
    assert set(names.split()) <= {"__future__", "csagent", "csagent.facts"}


def test_text_equality_and_hash_are_those_of_dataclasses() -> None:
    """The same repr, equal when all compared fields are, unequal across classes, hashed by value."""
    texts = []
    for kind in KINDS:
        made, other, plain = derived(kind), derived(kind), base(kind)
        one = made("a", 4, more=(1, "b"), hidden="EXAMPLE", cached=1)
        assert one == made("a", 4, (1, "b"), {}, "EXAMPLE", cached=2)
        assert one != made("a", 4, (1, "b")) and one != other("a", 4, (1, "b"), hidden="EXAMPLE")
        assert (one == ("a", 4)) is False
        assert hash(plain("a")) == hash(plain("a", 3)) and len({plain("a"), plain("a", 3), plain("b")}) == 2
        assert one.double == 8 and made.changes and not plain.changes
        texts.append(repr(one).replace("<locals>.", ""))
    assert texts[0] == texts[1].replace("<locals>.", "")
    assert "EXAMPLE" not in texts[0]


def test_wrong_arguments_are_refused_alike() -> None:
    """A missing, unknown, doubled or surplus argument is a TypeError; nothing is set on a frozen one."""
    for kind in KINDS:
        made = derived(kind)
        for arguments, named in (
            ((), {}),
            (("a",), {"nix": 1}),
            (("a",), {"name": "b"}),
            (tuple("abcdefgh"), {}),
        ):
            with pytest.raises(TypeError):
                made(*arguments, **named)
        one = made("a")
        for name in ("name", "nix"):
            with pytest.raises(AttributeError):
                setattr(one, name, 1)
        with pytest.raises(AttributeError):
            del one.name
        with pytest.raises(TypeError):
            kind.replace(one, nix=1)


def test_defaults_are_not_shared() -> None:
    """What a factory makes is each object's own; one that is not frozen can be changed, and has no hash."""
    for kind in KINDS:
        made = thing(kind)
        one, other = made(), made(at=1.0)
        one.items.append(1)
        one.at = 2.0
        assert other.items == [] and one.at == 2.0 and one == made([1], 2.0)
        with pytest.raises(TypeError):
            hash(one)


def test_slots_leave_no_room() -> None:
    """An object has its fields and no dict; a name that is none of them cannot be set."""
    one = thing(facts)()
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        one.nix = 1


@given(st.text(), st.integers(), st.lists(st.integers()), st.dictionaries(st.text(), st.text()))
def test_replace_and_as_dict(name: str, size: int, more: List[int], about: Dict[str, str]) -> None:
    """`replace` changes what is named, `asdict` has every field, facts inside it too, as in dataclasses."""
    told = []
    for kind in KINDS:
        made, inner = derived(kind), base(kind)
        one = made(name, size, (inner("i"), *more), {**about, "in": inner("j")})
        assert kind.replace(one, size=1) == made(name, 1, one.more, one.about)
        assert kind.replace(one) == one and kind.is_dataclass(one) and not kind.is_dataclass(name)
        told.append((kind.asdict(one), [field.name for field in kind.fields(made)]))
    assert told[0] == told[1]


def test_copies_are_equal() -> None:
    """A fact can be copied, and one that can be pickled is the same afterwards."""
    lease = Lease("eth0", "dhclient", "10.1.1.5", routers=("10.1.1.1",))
    for other in (copy.copy(lease), copy.deepcopy(lease), pickle.loads(pickle.dumps(lease))):
        assert other == lease and other is not lease


@pytest.mark.parametrize(
    "body",
    ["a: list = []", "a: int = 1\n    b: int", "a: int\n    def __post_init__(self): pass"],
)
def test_what_it_does_not_do_is_refused(body: str) -> None:
    """A class that dataclasses would refuse, or would treat otherwise, is refused where it is made."""
    space: Dict[str, Any] = {"kind": facts}
    with pytest.raises(TypeError, match="Odd"):
        exec(f"@kind.dataclass\nclass Odd:\n    {body}\n", space)


def test_ours_keep_what_they_say() -> None:
    """A secret stays masked in the text of a fact; a setting keeps what its manual page says of it."""
    lease = Lease("eth0", "dhclient", "10.1.1.5")
    assert repr(lease).startswith("Lease(interface='eth0', client='dhclient', address='10.1.1.5', server_")
    assert all(field.metadata["meaning"] for field in facts.fields(Settings))

    @facts.dataclass(frozen=True)
    class Holder:
        """Has one."""

        value: Secret

    assert "EXAMPLE" not in repr(Holder(Secret(b"EXAMPLE-marker")))
