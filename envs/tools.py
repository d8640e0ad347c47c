"""Tools: typed functions that a policy can call.

A tool never raises into the environment. Bad arguments, a `ToolError`, any other exception, a time-out and a flood of
output all become an observation; only an `InfrastructureFault` passes through, because it is not the policy's doing.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..sandboxes import InfrastructureFault
from .json_schema import compile_schema, first_violation, parameters_schema
from .protocol.turn import Call

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__forethought_tool__"
DEFAULT_TIMEOUT = 30.0


class ToolError(Exception):
    """Raise it in a tool to tell the policy, in a sentence, why the call did not work."""


@dataclass(slots=True, kw_only=True)
class CallResult:
    """One call after it was carried out."""

    name: str
    arguments: dict[str, Any]
    step: int | None = None
    output: str = ""
    error: str | None = None
    """`unknown_tool`, `bad_arguments`, `tool_error`, `timeout` or `budget`; None when the tool answered."""


@overload
def tool(function: F) -> F: ...
@overload
def tool(*, timeout: float | None = DEFAULT_TIMEOUT) -> Callable[[F], F]: ...
def tool(function: F | None = None, *, timeout: float | None = DEFAULT_TIMEOUT) -> F | Callable[[F], F]:
    """Mark a method of a `ToolEnv` as a tool.

    Its name, description and JSON Schema come from its name, docstring and annotations.

    Args:
        function: The method.
        timeout: Seconds after which the policy reads that the call took too long. None promises that the tool cannot
            hang (a table look-up): it then runs in the caller's thread, without the cost of watching it.
    """

    def mark(marked: F) -> F:
        setattr(marked, _MARK, timeout)
        return marked

    return mark if function is None else mark(function)


@dataclass(slots=True)
class Tool:
    """A function with its schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any]
    timeout: float | None = DEFAULT_TIMEOUT
    is_async: bool = False
    validator: Validator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.validator = compile_schema(self.parameters)

    @classmethod
    def from_function(cls, function: Callable[..., Any]) -> Tool:
        """A tool from a typed function or bound method."""
        doc = inspect.getdoc(function) or ""
        return cls(
            name=function.__name__,
            description=" ".join(doc.split("\n\n")[0].split()),
            parameters=parameters_schema(function),
            function=function,
            timeout=getattr(function, _MARK, DEFAULT_TIMEOUT),
            is_async=inspect.iscoroutinefunction(function),
        )

    def declaration(self) -> dict[str, Any]:
        """Name, description and parameters, as chat templates take them."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }


def marked_tools(owner: object) -> list[Tool]:
    """The methods of `owner` that carry the `tool` mark, in the order of their definition."""
    names: dict[str, None] = {}
    for cls in reversed(type(owner).__mro__):
        names |= dict.fromkeys(name for name, value in vars(cls).items() if hasattr(value, _MARK))
    return [Tool.from_function(getattr(owner, name)) for name in names]


class Toolbox:
    """The tools of one environment, and how they are run.

    Args:
        tools: The tools; names must differ.
        max_output: Characters of one call's output that the policy reads; the middle of longer output is cut.
    """

    def __init__(self, tools: Iterable[Tool], max_output: int = 8000) -> None:
        self._tools: dict[str, Tool] = {}
        for item in tools:
            if item.name in self._tools:
                raise ValueError(f"two tools are named {item.name!r}; names must differ")
            self._tools[item.name] = item
        self._max_output = max_output

    def declarations(self) -> list[dict[str, Any]]:
        """Every tool's declaration."""
        return [item.declaration() for item in self._tools.values()]

    def bind(self, call: Call) -> CallResult | tuple[Tool, CallResult]:
        """The tool and its checked arguments, or the result that says what is wrong with them."""
        given = call.arguments if isinstance(call.arguments, dict) else {}
        item = self._tools.get(call.name)
        if item is None:
            message = f"there is no tool {call.name[:60]!r}{self._hint(call.name)}"
            return _failed(call, given, "unknown_tool", message)
        if not isinstance(call.arguments, dict):
            names = list(item.parameters["properties"])
            if len(call.arguments) > len(names):
                message = f"{call.name} takes {len(names)} arguments ({', '.join(names)}), found {len(call.arguments)}"
                return _failed(call, given, "bad_arguments", message)
            properties = item.parameters["properties"]
            given = {n: _from_word(v, properties[n]) for n, v in zip(names, call.arguments, strict=False)}
        violation = first_violation(item.validator, given)
        if violation is not None:
            return _failed(call, given, "bad_arguments", f"{call.name}: {violation}")
        return item, CallResult(name=call.name, arguments=given, step=call.step)

    def runs_inline(self, call: Call) -> bool:
        """Whether the call can be carried out in the caller's thread, without an event loop."""
        item = self._tools.get(call.name)
        return item is None or (item.timeout is None and not item.is_async)

    def run_inline(self, call: Call) -> CallResult:
        """Carry out a call for which `runs_inline` holds."""
        bound = self.bind(call)
        if isinstance(bound, CallResult):
            return bound
        item, result = bound
        try:
            result.output = self._text(item.function(**result.arguments))
        except InfrastructureFault:
            raise
        except Exception as error:
            self._fail(result, error)
        return result

    async def run(self, call: Call) -> CallResult:
        """Carry out a call: a coroutine is awaited, a function that may hang runs in a thread of its own."""
        if self.runs_inline(call):
            return self.run_inline(call)
        bound = self.bind(call)
        if isinstance(bound, CallResult):
            return bound
        item, result = bound
        work = item.function(**result.arguments) if item.is_async else _in_thread(item.function, result.arguments)
        try:
            result.output = self._text(await asyncio.wait_for(work, item.timeout))
        except InfrastructureFault:
            raise
        except TimeoutError:
            result.error, result.output = "timeout", f"Error: {item.name} took longer than {item.timeout:g} seconds"
        except Exception as error:
            self._fail(result, error)
        return result

    def _fail(self, result: CallResult, error: Exception) -> None:
        result.error = "tool_error"
        message = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
        result.output = self._text(f"Error: {message}")

    def _text(self, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if len(text) <= self._max_output:
            return text
        half = self._max_output // 2
        return f"{text[:half]}\n[{len(text) - 2 * half} of {len(text)} characters cut]\n{text[-half:]}"

    def _hint(self, name: str) -> str:
        close = difflib.get_close_matches(name[:100], self._tools, n=1)
        if close:
            return f"; did you mean {close[0]!r}?"
        return f"; the tools are {', '.join(self._tools)}" if self._tools else "; this environment has no tools"


def _failed(call: Call, arguments: Mapping[str, Any], kind: str, message: str) -> CallResult:
    return CallResult(name=call.name, arguments=dict(arguments), step=call.step, output=f"Error: {message}", error=kind)


def _from_word(word: str, schema: Mapping[str, Any]) -> Any:
    """A word as the type that the schema asks for; unchanged where it does not read as one."""
    convert = {"integer": int, "number": float}.get(schema.get("type", ""))
    try:
        return word if convert is None else convert(word)
    except ValueError:
        return word


def _in_thread(function: Callable[..., Any], arguments: Mapping[str, Any]) -> asyncio.Future[Any]:
    """Run `function` in a daemon thread: one that hangs for ever neither blocks a pool nor the exit of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def deliver(value: Any, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def work() -> None:
        value, error = None, None
        try:
            value = function(**arguments)
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, value, error)

    threading.Thread(target=work, daemon=True, name=f"tool-{getattr(function, '__name__', 'call')}").start()
    return future
