"""Tools: typed functions that a policy can call.

A tool never raises into the environment. Bad arguments, a `ToolError`, any other exception, a time-out and a flood of
output all become an observation; only an `InfrastructureFault` passes through, because it is not the policy's doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import difflib
import inspect
import json
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload
from weakref import WeakKeyDictionary

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

    kind: ClassVar[str] = "tool_error"
    """What `CallResult.error` says."""


class OverBudgetError(ToolError):
    """The budget has no room for the call."""

    kind = "budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubAnswer:
    """What a sub-model gave back."""

    model: str
    text: str | None
    """None when it ended without an answer."""
    stop_reason: str = "answered"
    sampled_tokens: int = 0
    cost: float = 0.0
    """Money, in the unit of the model's prices."""
    child: int | None = None
    """Number of the branch in which the rollout keeps the tokens of the sub-task; None when they are not kept."""


@dataclass(slots=True, kw_only=True)
class CallResult:
    """One call after it was carried out."""

    name: str
    arguments: dict[str, Any]
    step: int | None = None
    """Number of the plan step that the call says it serves."""
    output: str = ""
    error: str | None = None
    """`unknown_tool`, `bad_arguments`, `tool_error`, `timeout` or `budget`; None when the tool answered."""
    model: str | None = None
    """Name of the sub-model that was asked; None for every other tool."""
    child: int | None = None
    """Segment of the episode with which the sub-task began; None when its tokens are not the policy's."""
    sampled_tokens: int = 0
    """Tokens that the sub-model sampled, its own sub-calls included."""
    cost: float = 0.0
    stop_reason: str | None = None
    """How the sub-task ended."""


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
    _types: dict[str, type | None] = field(init=False, repr=False)
    """Of each parameter, the class that its schema accepts without a closer look."""
    _required: frozenset[str] = field(init=False, repr=False)
    _plain: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.validator = compile_schema(self.parameters)
        properties = self.parameters.setdefault("properties", {})
        self._types = {name: _SIMPLE.get(_simple(schema)) for name, schema in properties.items()}
        self._required = frozenset(self.parameters.get("required", ()))
        self._plain = self.parameters.keys() <= {
            "type",
            "description",
            "properties",
            "required",
            "additionalProperties",
        }

    @classmethod
    def from_function(cls, function: Callable[..., Any]) -> Tool:
        """A tool from a typed function or bound method."""
        source = getattr(function, "__func__", function)
        unbound = _declared.get(source)
        if unbound is None:
            doc = inspect.getdoc(function) or ""
            unbound = _declared[source] = cls(
                name=function.__name__,
                description=" ".join(doc.split("\n\n")[0].split()),
                parameters=parameters_schema(function),
                function=_unbound,
                timeout=getattr(function, _MARK, DEFAULT_TIMEOUT),
                is_async=inspect.iscoroutinefunction(function),
            )
        bound = copy.copy(unbound)
        bound.function = function
        return bound

    def accepts(self, arguments: Mapping[str, Any]) -> bool:
        """Whether `arguments` are plainly valid. If not, the slower validator has the last word."""
        types = self._types
        for name, value in arguments.items():
            if type(value) is not types.get(name):
                return False
        return self._plain and self._required <= arguments.keys()

    def as_annotated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Valid arguments with whole numbers as `int` where an integer is asked for: 2.0 is an integer in JSON."""
        return {
            name: int(value) if type(value) is float and self._types.get(name) is int else value
            for name, value in arguments.items()
        }

    def declaration(self) -> dict[str, Any]:
        """Name, description and parameters, as chat templates take them."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }


_declared: WeakKeyDictionary[Callable[..., Any], Tool] = WeakKeyDictionary()
"""The tool of each function, not bound to it: schemas are made once, not once for every instance of an environment."""


def _unbound(**arguments: Any) -> Any:
    raise RuntimeError("this tool is not bound to a function")


_NOTE = 60
"""Characters kept for the note that something was cut: text that was cut is not cut again."""
_SIMPLE: dict[str | None, type] = {"string": str, "integer": int, "number": float, "boolean": bool}


def _simple(schema: Mapping[str, Any]) -> str | None:
    """The type of a schema that asks for nothing but a scalar type."""
    return schema.get("type") if schema.keys() <= {"type", "description", "default"} else None


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
        if max_output < 1:
            raise ValueError(f"max_output must be at least 1 character, found {max_output}")
        self._tools: dict[str, Tool] = {}
        self.max_output = max_output
        self.add(tools)

    def add(self, tools: Iterable[Tool]) -> None:
        """Take more tools in; names must differ."""
        for item in tools:
            if item.name in self._tools:
                raise ValueError(f"two tools are named {item.name!r}; names must differ")
            self._tools[item.name] = item

    @property
    def tools(self) -> list[Tool]:
        """The tools."""
        return list(self._tools.values())

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
            properties = item.parameters["properties"]
            if len(call.arguments) > len(properties):
                counts = f"{len(properties)} arguments ({', '.join(properties)}), found {len(call.arguments)}"
                return _failed(call, given, "bad_arguments", f"{call.name} takes {counts}")
            given = {
                n: _from_word(w, schema) for w, (n, schema) in zip(call.arguments, properties.items(), strict=False)
            }
        if not item.accepts(given):
            violation = first_violation(item.validator, given)
            if violation is not None:
                return _failed(call, given, "bad_arguments", f"{call.name}: {violation}")
            given = item.as_annotated(given)
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
        except (Exception, SystemExit) as error:
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
        work: asyncio.Future[_Settled]
        if item.is_async:
            work = asyncio.ensure_future(_settle(item.function(**result.arguments)))
        else:
            work = _in_thread(item.function, result.arguments)
        try:
            # Not wait_for: it would wait for a coroutine that ignores its cancellation.
            done, _ = await asyncio.wait((work,), timeout=item.timeout)
        finally:
            work.cancel()
        if not done:
            result.error, result.output = "timeout", f"Error: {item.name} took longer than {item.timeout:g} seconds"
            return result
        value, error = work.result()
        if isinstance(error, InfrastructureFault):
            raise error
        if isinstance(value, SubAnswer):
            value, error = self._note(result, value)
        if error is None:
            try:
                result.output = self._text(value)
            except Exception as unprintable:
                error = unprintable
        if error is not None:
            self._fail(result, error)
        return result

    def _note(self, result: CallResult, answer: SubAnswer) -> tuple[str | None, ToolError | None]:
        """Keep what is known of a sub-call; returns its answer, or the error that the policy reads."""
        result.model, result.child, result.stop_reason = answer.model, answer.child, answer.stop_reason
        result.sampled_tokens, result.cost = answer.sampled_tokens, answer.cost
        if answer.text is not None:
            return answer.text, None
        return None, ToolError(f"the sub-model gave no answer ({answer.stop_reason})")

    def _fail(self, result: CallResult, error: BaseException) -> None:
        result.error = error.kind if isinstance(error, ToolError) else "tool_error"
        try:
            message = str(error)
        except Exception:
            message = "(its message cannot be shown)"
        if not isinstance(error, ToolError):
            message = f"{type(error).__name__}: {message}" if message else type(error).__name__
        result.output = self._text(f"Error: {message}")

    def _text(self, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if len(text) > self.max_output:
            half = max(1, self.max_output - _NOTE) // 2
            text = f"{text[:half]}\n[{len(text) - 2 * half} of {len(text)} characters cut]\n{text[len(text) - half :]}"
        # A lone surrogate is not Unicode text: no tokenizer takes it.
        return text if text.isascii() else text.encode(errors="replace").decode()

    def _hint(self, name: str) -> str:
        close = difflib.get_close_matches(name[:100], self._tools, n=1)
        if close:
            return f"; did you mean {close[0]!r}?"
        return f"; the tools are {', '.join(self._tools)}" if self._tools else "; this environment has no tools"


def _failed(call: Call, arguments: Mapping[str, Any], kind: str, message: str) -> CallResult:
    return CallResult(name=call.name, arguments=dict(arguments), step=call.step, output=f"Error: {message}", error=kind)


def _from_word(word: str, schema: Mapping[str, Any]) -> Any:
    """A word as the type that the schema asks for; unchanged where it does not read as one."""
    if "enum" in schema:
        return next((value for value in schema["enum"] if str(value) == word), word)
    for alternative in schema.get("anyOf", (schema,)):
        kind = alternative.get("type")
        if kind == "string":
            return word
        if kind == "null" and word == "null":
            return None
        if kind == "boolean" and word in ("true", "false"):
            return word == "true"
        try:
            if kind == "integer":
                return int(word)
            if kind == "number" and math.isfinite(number := float(word)):
                return number
        except ValueError:
            pass
    return word


_Settled = tuple[Any, BaseException | None]
"""What a tool returned, or what it raised."""


async def _settle(work: Awaitable[Any]) -> _Settled:
    """Await a tool; whatever it raises is data, unless this task itself is cancelled."""
    try:
        return await work, None
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return None, error
    except (Exception, SystemExit) as error:
        return None, error


def _in_thread(function: Callable[..., Any], arguments: Mapping[str, Any]) -> asyncio.Future[_Settled]:
    """Run `function` in a daemon thread: one that hangs for ever neither blocks a pool nor the exit of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Settled] = loop.create_future()

    def deliver(settled: _Settled) -> None:
        if not future.done():
            future.set_result(settled)

    def work() -> None:
        settled: _Settled
        try:
            settled = function(**arguments), None
        except BaseException as error:
            settled = None, error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, settled)

    threading.Thread(target=work, daemon=True, name=f"tool-{getattr(function, '__name__', 'call')}").start()
    return future
