"""The published schemas, and files held against them.

Every kind of row that the package reads or writes has a JSON Schema `forethought/NAME/VERSION` in the folder `schemas`
of the package that owns it. The version changes whenever rows that were valid no longer are.
"""

from __future__ import annotations

import importlib.resources
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envs.json_schema import published_schema, published_validator

_PACKAGES = ("forethought.envs", "forethought.agents")
_SUFFIX = ".schema.json"


class SchemaError(ValueError):
    """A file cannot be held against a schema; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSchema:
    """One schema of the package."""

    name: str
    version: int
    package: str
    title: str
    description: str

    @property
    def id(self) -> str:
        """`forethought/NAME/VERSION`, as rows name it."""
        return f"forethought/{self.name}/{self.version}"

    def load(self) -> dict[str, Any]:
        """The schema itself."""
        return published_schema(self.name, self.package)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a file."""

    line: int | None
    """Where it shows; None when the text does not tell."""
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


def published_schemas() -> dict[str, PublishedSchema]:
    """All schemas of the package by name."""
    found = {}
    for package in _PACKAGES:
        folder = importlib.resources.files(package).joinpath("schemas")
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith(_SUFFIX):
                name = file.name.removesuffix(_SUFFIX)
                schema = published_schema(name, package)
                found[name] = PublishedSchema(
                    name=name,
                    version=int(schema["$id"].rpartition("/")[2]),
                    package=package,
                    title=schema["title"],
                    description=schema["description"],
                )
    return found


class FileCheck:
    """Holds a file against a schema: JSON Lines line by line, a JSON or TOML document as a whole.

    Args:
        path: The file.
        name: Name of the schema; without it each row says by its field `schema` what it is.

    Raises:
        SchemaError: there is no such file or schema.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.path = Path(path)
        self.rows = 0
        """Rows that were looked at so far."""
        self.names: set[str] = set()
        """Schemas that they were held against."""
        self._schemas = published_schemas()
        self._name = name
        if name is not None and name not in self._schemas:
            raise SchemaError(f"there is no schema {name!r}; there are {', '.join(sorted(self._schemas))}")
        if not self.path.is_file():
            raise SchemaError(f"{self.path}: there is no such file")

    def problems(self) -> Iterator[Problem]:
        """What is wrong, in the order of the file.

        Raises:
            SchemaError: a row does not say what it is, and no schema was named.
        """
        if self.path.suffix == ".toml":
            yield from self._toml()
        elif self.path.suffix == ".json":
            yield from self._json()
        else:
            yield from self._lines()

    def _lines(self) -> Iterator[Problem]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = _decode(line)
                except ValueError as error:
                    if line.endswith(b"\n"):
                        yield Problem(line=number, message=f"not JSON: {error}")
                    else:
                        yield Problem(line=number, message="the last line is not whole: its writer was killed")
                    continue
                for _, message in self._row(row, f"line {number}"):
                    yield Problem(line=number, message=message)

    def _json(self) -> Iterator[Problem]:
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
            value = _decode(text)
        except json.JSONDecodeError as error:
            yield Problem(line=error.lineno, message=f"not JSON: {error.msg} at column {error.colno}")
            return
        except (ValueError, RecursionError) as error:
            yield Problem(line=None, message=f"not JSON: {error}")
            return
        rows = [((i,), row) for i, row in enumerate(value)] if isinstance(value, list) else [((), value)]
        for where, row in rows:
            for path, message in self._row(row, "the file"):
                yield Problem(line=line_of(text, (*where, *path)), message=message)

    def _toml(self) -> Iterator[Problem]:
        try:
            value = tomllib.loads(self.path.read_bytes().decode("utf-8"))
        except ValueError as error:
            yield Problem(line=None, message=f"not TOML: {error}")
            return
        for _, message in self._row(value, "the file"):
            yield Problem(line=None, message=message)

    def _row(self, row: Any, where: str) -> Iterator[tuple[Sequence[str | int], str]]:
        """Violations of one row: where in it, and a sentence."""
        self.rows += 1
        schema = self._schema_of(row, where)
        if isinstance(schema, str):
            yield (("schema",), schema)
            return
        self.names.add(schema.id)
        from jsonschema.exceptions import best_match

        for error in published_validator(schema.name, schema.package).iter_errors(row):
            told = best_match([error]) or error
            path = tuple(told.absolute_path)
            message = told.message if len(told.message) <= 300 else told.message[:300] + "..."
            yield path, f"{'.'.join(map(str, path))}: {message}" if path else message

    def _schema_of(self, row: Any, where: str) -> PublishedSchema | str:
        """The schema of a row, or what is wrong with the one that it names."""
        named = row.get("schema") if isinstance(row, dict) else None
        if self._name is not None:
            schema = self._schemas[self._name]
            return schema if named in (None, schema.id) else f"expected a row of {schema.id}, found one of {named!r}"
        if not isinstance(named, str):
            raise SchemaError(
                f'{self.path}, {where}: no field "schema" says what this is: name one with --schema '
                f"({', '.join(sorted(self._schemas))})"
            )
        name = named.removeprefix("forethought/").rpartition("/")[0]
        if name not in self._schemas:
            return f"there is no schema {named!r}; there are {', '.join(sorted(self._schemas))}"
        schema = self._schemas[name]
        return schema if named == schema.id else f"written with schema {named!r}, this version knows {schema.id!r}"


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line of a JSON document on which the value at `path` begins, or the nearest one around it that is there."""
    decoder = json.JSONDecoder(strict=False)
    at = _skip(text, 0)
    for part in path:
        closing = {"{": "}", "[": "]"}.get(text[at])
        inner = _skip(text, at + 1)
        index = 0
        while closing is not None and text[inner] != closing:
            key: Any = index
            if closing == "}":
                key, inner = decoder.raw_decode(text, inner)
                inner = _skip(text, _skip(text, inner) + 1)
            if key == part:
                break
            inner = _skip(text, decoder.raw_decode(text, inner)[1])
            inner = _skip(text, inner + 1) if text[inner] == "," else inner
            index += 1
        if closing is None or text[inner] == closing:
            break
        at = inner
    return text.count("\n", 0, at) + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _decode(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
