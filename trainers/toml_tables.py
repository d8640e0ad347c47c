"""Strict reading of TOML into dataclasses: every mistake is named with its file, its line and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\-\"' ]+?)\s*=")
_SIMPLE = (str, int, float, bool)
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "a table"}


class ConfigError(ValueError):
    """A configuration file or an override is wrong; the message says where and what is allowed."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where values come from, for error messages."""

    name: str
    text: str
    overrides: Sequence[str] = ()
    """`name=value` each; a value that one of them set is not blamed on the file."""

    def at(self, path: Sequence[str | int]) -> str:
        """`file, line N` of the value at `path`, as near as the text tells, or the override that set it."""
        parts = [str(part) for part in path]
        for override in reversed(self.overrides):
            name = _split(override.partition("=")[0])
            if name == parts[: len(name)]:
                return f"override {override!r}"
        line, depth = self._line(parts)
        if depth < len(parts):  # the text does not name it: an override may have made it on its way
            for override in reversed(self.overrides):
                if _split(override.partition("=")[0])[: len(parts)] == parts:
                    return f"override {override!r}"
        return f"{self.name}, line {line}" if line else self.name

    def _line(self, path: list[str]) -> tuple[int | None, int]:
        """The line of the longest prefix of `path` that the text names, and the length of that prefix."""
        best, best_depth = None, 0
        header: list[str] = []
        entries: dict[str, int] = {}
        lines = self.text.splitlines()
        for number, line in enumerate(lines, 1):
            if match := _HEADER.match(line):
                if not _is_toml("\n".join(lines[: number - 1])):
                    continue  # a line of an array or of a string over several lines
                name = ".".join(_split(match[1]))
                if line.lstrip().startswith("[["):
                    entries[name] = entries.get(name, -1) + 1
                here = header = _numbered(_split(name), entries)
            elif match := _KEY.match(line):
                here = header + _split(match[1])
            else:
                continue
            depth = len(here)
            if depth > best_depth and here == path[:depth] and _is_toml("\n".join(lines[: number - 1])):
                best, best_depth = number, depth
        return best, best_depth


def read_toml(path: str | Path) -> tuple[dict[str, Any], Source]:
    """The tables of a file.

    Raises:
        ConfigError: there is no such file, or it is not TOML.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from None
    try:
        return tomllib.loads(text), Source(str(path), text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def apply_overrides(tables: dict[str, Any], overrides: Iterable[str]) -> None:
    """Set values by dotted name: `grpo.length_penalty.weight=0`, `eval.0.tasks=100`.

    Raises:
        ConfigError: an override is not `name=value`, or walks through something that is no table.
    """
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"override {override!r}: expected name=value, for example seed=1")
        value = _override_value(text)
        *parents, last = _split(name)
        place: Any = tables
        for part in parents:
            place = _descend(place, part, override)
        if isinstance(place, list):
            place[_index(place, last, override)] = value
        else:
            place[last] = value


def build(cls: type[T], table: dict[str, Any], source: Source, path: tuple[str | int, ...] = ()) -> T:
    """An instance of the dataclass `cls` from a table.

    Raises:
        ConfigError: an unknown key, a missing key, or a value of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    hints = typing.get_type_hints(cls)
    where = f"[{'.'.join(map(str, path))}]" if path else "the top level"
    for key in table:
        check_key(key, list(fields), source, (*path, key), where)
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(table[name], hints[name], source, (*path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source.at(path)}: {where} needs a value for {name!r}")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{source.at(path)}: {where}: {error}") from None


def check_fields(
    table: dict[str, Any], config: type[Any], source: Source, path: Sequence[str | int], where: str
) -> None:
    """Check keys, and values of simple types, against the dataclass `config` of another package.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    names = [f.name for f in dataclasses.fields(config) if f.init]
    try:
        hints = typing.get_type_hints(config)
    except Exception:  # annotations that only a type checker can read
        hints = {}
    for key, value in table.items():
        check_key(key, names, source, (*path, key), where)
        kinds = [kind for kind in typing.get_args(hints.get(key)) or (hints.get(key),) if kind is not type(None)]
        if len(kinds) == 1 and kinds[0] in _SIMPLE:
            _convert(value, kinds[0], source, (*path, key))


def check_key(key: str, allowed: list[str], source: Source, path: Sequence[str | int], where: str) -> None:
    """Raise a `ConfigError` that suggests the closest allowed key, unless `key` is one of them."""
    if key in allowed:
        return
    close = difflib.get_close_matches(key, allowed, n=1)
    if close:
        hint = f"did you mean {close[0]!r}?"
    else:
        hint = f"allowed are {', '.join(allowed)}" if len(allowed) <= 20 else "see the documentation of its fields"
    raise ConfigError(f"{source.at(path)}: unknown key {key!r} in {where}; {hint}")


def _convert(value: Any, hint: Any, source: Source, path: tuple[str | int, ...]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert(value, next(a for a in arguments if a is not type(None)), source, path)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        _expect(isinstance(value, dict), "a table", value, source, path)
        return build(typing.cast(Any, hint), value, source, path)
    if origin is list:
        _expect(isinstance(value, list), "a list", value, source, path)
        return [_convert(item, arguments[0], source, (*path, i)) for i, item in enumerate(value)]
    if origin is tuple:
        fits = isinstance(value, list) and len(value) == len(arguments)
        _expect(fits, f"a list of {len(arguments)} values", value, source, path)
        return tuple(_convert(v, a, source, (*path, i)) for i, (v, a) in enumerate(zip(value, arguments, strict=True)))
    if origin is typing.Literal:
        _expect(value in arguments, f"one of {', '.join(map(repr, arguments))}", value, source, path)
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = origin or hint
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _expect(fits, _NAMES.get(kind, str(kind)), value, source, path)
    return value


def _expect(fits: bool, expected: str, value: Any, source: Source, path: Sequence[str | int]) -> None:
    if not fits:
        name = ".".join(map(str, path))
        raise ConfigError(f"{source.at(path)}: {name} must be {expected}, found {value!r}")


def _descend(place: Any, part: str, override: str) -> Any:
    child = place[_index(place, part, override)] if isinstance(place, list) else place.setdefault(part, {})
    if not isinstance(child, (dict, list)):
        raise ConfigError(f"override {override!r}: {part!r} is a value, not a table")
    return child


def _index(items: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise ConfigError(f"override {override!r}: {part!r} is not the number of one of the {len(items)} entries")
    return int(part)


def _split(name: str) -> list[str]:
    return [part.strip().strip("\"'") for part in name.split(".")]


def _override_value(text: str) -> Any:
    """A TOML value, or the text itself where it is none: quotes may be left out."""
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return tables["value"] if len(tables) == 1 else text


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _numbered(name: list[str], entries: dict[str, int]) -> list[str]:
    """A header as a path: behind the name of an array of tables stands the number of its last entry."""
    path: list[str] = []
    for i, part in enumerate(name, 1):
        path.append(part)
        if (number := entries.get(".".join(name[:i]))) is not None:
            path.append(str(number))
    return path
