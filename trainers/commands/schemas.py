"""`forethought schemas`: the published schemas, and files held against them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

_MOST = 50


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    schemas = commands.add_parser("schemas", help="list the published JSON Schemas, or validate a file")
    verbs = schemas.add_subparsers(title="commands", required=True)
    listing = verbs.add_parser("list", help="list the schemas")
    listing.set_defaults(run=_list)
    show = verbs.add_parser("show", help="print a schema")
    show.add_argument("name")
    show.set_defaults(run=_show)
    validate = verbs.add_parser("validate", help="hold a JSON Lines, JSON or TOML file against a schema")
    validate.add_argument("file", type=Path)
    validate.add_argument(
        "--schema", help="name of the schema; without it, rows say by their field 'schema' what they are"
    )
    validate.set_defaults(run=_validate)


def _list(options: argparse.Namespace) -> None:
    from ...agents.published import published_schemas

    for schema in published_schemas().values():
        print(f"{schema.id:30} {schema.description}")


def _show(options: argparse.Namespace) -> None:
    from ...agents.published import SchemaError, published_schemas

    schemas = published_schemas()
    if options.name not in schemas:
        raise SchemaError(f"there is no schema {options.name!r}; there are {', '.join(sorted(schemas))}")
    print(json.dumps(schemas[options.name].load(), indent=2))


def _validate(options: argparse.Namespace) -> int:
    from ...agents.published import FileCheck
    from ...agents.report.escape import one_line

    check = FileCheck(options.file, options.schema)
    count = 0
    for problem in check.problems():
        count += 1
        if count <= _MOST:
            print(
                f"{options.file}, {one_line(str(problem))}"
                if problem.line
                else f"{options.file}: {one_line(str(problem))}"
            )
    if count > _MOST:
        print(f"... and {count - _MOST} more")
    names = f" of {', '.join(sorted(check.names))}" if check.names else ""
    print(f"{check.rows} rows{names}: {f'{count} problems' if count else 'all valid'}")
    return 1 if count else 0
