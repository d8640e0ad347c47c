from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from forethought.trainers.toml_tables import ConfigError, Source, apply_overrides, build, check_fields, read_toml


@dataclass(frozen=True, kw_only=True)
class Wheel:
    size: int
    spokes: float = 30.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, found {self.size}")


@dataclass(frozen=True, kw_only=True)
class Bicycle:
    name: str
    colour: Literal["red", "blue"] = "red"
    gears: int | None = None
    electric: bool = False
    span: tuple[float, float] = (0.0, 1.0)
    tags: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    front: Wheel = Wheel(size=28)
    wheels: list[Wheel] = field(default_factory=list)


TEXT = """\
name = "tourer"   # a comment
tags = [
    "x = 1",
    "size = 3",
]
options = { deep = { size = 1 } }
note = '''
[front]
size = 9
'''

[front]
size = 26

[[wheels]]
size = 20

[[wheels]]
# the second
size = 24
spokes = 36
"""


def read(text: str, tmp_path: Path, *overrides: str) -> Bicycle:
    path = tmp_path / "bicycle.toml"
    path.write_text(text, "utf-8")
    tables, source = read_toml(path)
    apply_overrides(tables, overrides)
    return build(Bicycle, tables, Source(source.name, source.text, overrides))


def test_values_become_what_the_fields_say(tmp_path: Path) -> None:
    text = 'name = "a"\ngears = 7\nspan = [1, 2]\ntags = ["t"]\nwheels = [{ size = 3, spokes = 4 }]\n[options]\nx.y = 1'
    assert read(text, tmp_path) == Bicycle(
        name="a", gears=7, span=(1.0, 2.0), tags=["t"], options={"x": {"y": 1}}, wheels=[Wheel(size=3, spokes=4.0)]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"\ngear = 7', "line 2: unknown key 'gear' in the top level; did you mean 'gears'?"),
        (
            'name = "a"\n[front]\nsize = 1\nzzzzz = 1',
            "line 4: unknown key 'zzzzz' in [front]; allowed are size, spokes",
        ),
        ("colour = 'red'", "the top level needs a value for 'name'"),
        ('name = "a"\n[front]\nspokes = 1', "line 2: [front] needs a value for 'size'"),
        ("name = 3", "line 1: name must be a string, found 3"),
        ('name = "a"\ngears = "7"', "line 2: gears must be an integer, found '7'"),
        ('name = "a"\ngears = true', "gears must be an integer, found True"),
        ('name = "a"\nelectric = 1', "electric must be true or false, found 1"),
        ('name = "a"\ncolour = "green"', "colour must be one of 'red', 'blue', found 'green'"),
        ('name = "a"\nspan = [1]', "span must be a list of 2 values, found [1]"),
        ('name = "a"\nspan = [1, "b"]', "line 2: span.1 must be a number, found 'b'"),
        ('name = "a"\ntags = ["b", 3]', "tags.1 must be a string, found 3"),
        ('name = "a"\nfront = 28', "line 2: front must be a table, found 28"),
        ('name = "a"\nwheels = { size = 1 }', "wheels must be a list"),
        ('name = "a"\n\n[[wheels]]\nsize = 1\n[[wheels]]\nsize = 0', "line 5: [wheels.1]: size must be at least 1"),
        ('name = "a"\n[[wheels]]\nsize = 1\n[[wheels]]\nsize = "0"', "line 5: wheels.1.size must be an integer"),
        ("name = ", "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(text, tmp_path)
    assert str(error.value).startswith(str(tmp_path / "bicycle.toml")) and message in str(error.value)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 1),
        (("options", "deep", "size"), 6),
        (("front", "size"), 13),
        (("wheels", 0, "size"), 16),
        (("wheels", 1, "size"), 20),
        (("wheels", 1, "spokes"), 21),
        (("wheels", 1, "missing"), 18),
        (("size",), None),
        (("x",), None),
        (("missing",), None),
    ],
)
def test_lines_are_those_of_the_value(path: tuple[str | int, ...], line: int | None) -> None:
    assert Source("f", TEXT).at(path) == (f"f, line {line}" if line else "f")


def test_lines_below_an_array_of_tables() -> None:
    text = "[[eval]]\nname = 'a'\n[eval.kwargs]\nx = 1\n[[eval]]\nname = 'b'\n[eval.kwargs]\nx = 2\n"
    assert [Source("f", text).at(("eval", i, "kwargs", "x")) for i in (0, 1)] == ["f, line 4", "f, line 8"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_a_file_that_cannot_be_read(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    make(path)
    with pytest.raises(ConfigError, match=r"a\.toml: "):
        read_toml(path)


def test_overrides_set_values_of_any_kind() -> None:
    tables: dict[str, Any] = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}], "words": ["u", "v"]}
    overrides = ["a.b=2", "a.c.d=true", "list.1.x=[1, 2]", "new=some text", "a.e=1=2", 'a.f="3"', "words.0=w"]
    apply_overrides(tables, overrides)
    assert tables == {
        "a": {"b": 2, "c": {"d": True}, "e": "1=2", "f": "3"},
        "list": [{"x": 1}, {"x": [1, 2]}],
        "new": "some text",
        "words": ["w", "v"],
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "expected name=value"),
        ("=1", "expected name=value"),
        ("a.b.c=1", "'b' is a value, not a table"),
        ("list.5.x=1", "'5' is not the number of one of the 2 entries"),
        ("list.x=1", "'x' is not the number"),
        ("words.0.x=1", "'0' is a value, not a table"),
    ],
)
def test_overrides_that_fit_nowhere(override: str, message: str) -> None:
    tables: dict[str, Any] = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}], "words": ["u"]}
    with pytest.raises(ConfigError, match=message):
        apply_overrides(tables, [override])


def test_an_override_is_blamed_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^override 'gears=many': gears must be an integer, found 'many'"):
        read('name = "a"\ngears = 7', tmp_path, "gears=many")
    with pytest.raises(ConfigError, match=r"^override 'fornt.size=1': unknown key 'fornt'.*did you mean 'front'"):
        read('name = "a"', tmp_path, "fornt.size=1")


def test_options_of_another_package() -> None:
    @dataclass
    class Options:
        steps: int = 1
        rate: float | None = None
        either: str | list[str] | None = None
        made: int = field(default=0, init=False)

    source = Source("f", "[t]\nsteps = 1\n")
    check_fields({"steps": 3, "rate": 1, "either": ["a"]}, Options, source, ("t",), "[t]")
    for table, message in (
        ({"steps": "3"}, "f, line 2: t.steps must be an integer"),
        ({"rate": "1"}, "t.rate must be a number"),
        ({"step": 3}, "unknown key 'step' in [t]; did you mean 'steps'"),
        ({"made": 3}, "unknown key 'made'"),
    ):
        with pytest.raises(ConfigError) as error:
            check_fields(table, Options, source, ("t",), "[t]")
        assert message in str(error.value)
