"""JSON Schemas: of a function's parameters, and of the rows that the package reads and writes."""

from __future__ import annotations

import functools
import importlib.resources
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def parameters_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """JSON Schema of a function's parameters from its annotations, defaults and the `Args:` of its docstring.

    Raises:
        TypeError: a parameter has no annotation, or one that has no JSON counterpart.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    descriptions = _argument_descriptions(inspect.getdoc(function) or "")
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self":
            continue
        if name not in hints or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(
                f"tool {function.__qualname__!r}: parameter {name!r} needs a name and a type annotation of its own"
            )
        schema = _type_schema(hints[name], f"tool {function.__qualname__!r}, parameter {name!r}")
        if name in descriptions:
            schema["description"] = descriptions[name]
        if parameter.default is parameter.empty:
            required.append(name)
        else:
            schema["default"] = parameter.default
        properties[name] = schema
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _type_schema(hint: Any, where: str) -> dict[str, Any]:
    if hint is Any:
        return {}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        notes = [note for note in arguments[1:] if isinstance(note, str)]
        return _type_schema(arguments[0], where) | ({"description": notes[-1]} if notes else {})
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_type_schema(a, where) for a in arguments]}
    if hint is list or origin in (list, Sequence):
        return {"type": "array"} | ({"items": _type_schema(arguments[0], where)} if arguments else {})
    if hint is dict or origin in (dict, Mapping):
        values = {"additionalProperties": _type_schema(arguments[1], where)} if arguments else {}
        return {"type": "object"} | values
    raise TypeError(f"{where}: {hint!r} has no JSON counterpart; use str, int, float, bool, list, dict, Literal or |")


def _argument_descriptions(doc: str) -> dict[str, str]:
    """The lines under `Args:` of a Google-style docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if section is None:
        return {}
    found = re.findall(r"^ {4}(\w+)(?: \([^)]*\))?: (.+(?:\n {5,}.+)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def compile_schema(schema: Mapping[str, Any]) -> Validator:
    """A validator for `schema` (draft 2020-12)."""
    import jsonschema  # a tenth of a second that importing the environments need not cost

    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def first_violation(validator: Validator, value: Any) -> str | None:
    """The most telling violation in one sentence, or None when `value` is valid."""
    for _ in validator.iter_errors(value):
        from jsonschema.exceptions import best_match

        error = best_match(validator.iter_errors(value))
        where = ".".join(str(part) for part in error.absolute_path)
        message = error.message if len(error.message) <= 300 else error.message[:300] + "..."
        return f"{where}: {message}" if where else message
    return None


@functools.cache
def published_schema(name: str, package: str = "forethought.envs") -> dict[str, Any]:
    """A schema that a package publishes in its folder `schemas`."""
    text = importlib.resources.files(package).joinpath("schemas", f"{name}.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@functools.cache
def published_validator(name: str, package: str = "forethought.envs") -> Validator:
    """The compiled validator of `published_schema(name, package)`."""
    return compile_schema(published_schema(name, package))
