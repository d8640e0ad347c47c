import asyncio
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest

from forethought.envs import ToolError, tool
from forethought.envs.protocol import Call
from forethought.envs.tools import CallResult, Tool, Toolbox
from forethought.sandboxes import InfrastructureFault


def box(*functions: Callable[..., Any], max_output: int = 200) -> Toolbox:
    return Toolbox(map(Tool.from_function, functions), max_output)


def run(toolbox: Toolbox, name: str, arguments: dict[str, Any] | tuple[str, ...]) -> CallResult:
    """The result, which must be the same whether or not the call can run inline."""
    call = Call(name, arguments)
    result = asyncio.run(toolbox.run(call))
    if toolbox.runs_inline(call):
        assert toolbox.run_inline(call) == result
    return result


@tool(timeout=None)
def search(query: str, k: int = 3, exact: bool = False) -> str:
    """Find passages.

    Longer text that the policy does not read.

    Args:
        query: What to look for,
            in words.
        k: How many.
        exact: Whether to match the words.
    """
    return f"{query}/{k}/{exact}"


def test_the_schema_comes_from_the_signature() -> None:
    assert Tool.from_function(search).declaration() == {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Find passages.",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "What to look for, in words."},
                    "k": {"type": "integer", "description": "How many.", "default": 3},
                    "exact": {"type": "boolean", "description": "Whether to match the words.", "default": False},
                },
                "required": ["query"],
                "additionalProperties": False,
            },
        },
    }


def test_annotations_become_schemas() -> None:
    def function(
        a: int | None, b: list[str], c: dict[str, float], d: Literal["x", "y"], e: Annotated[str, "an e"], f: Any
    ) -> None: ...

    assert Tool.from_function(function).parameters["properties"] == {
        "a": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "b": {"type": "array", "items": {"type": "string"}},
        "c": {"type": "object", "additionalProperties": {"type": "number"}},
        "d": {"enum": ["x", "y"]},
        "e": {"type": "string", "description": "an e"},
        "f": {},
    }


def test_a_tool_must_be_typed() -> None:
    def untyped(a): ...  # type: ignore[no-untyped-def]

    def variadic(*a: int) -> None: ...

    def positional(a: int, /) -> None: ...

    def exotic(a: complex) -> None: ...

    for function in (untyped, variadic, positional, exotic):
        with pytest.raises(TypeError, match=f"{function.__name__}.*'a'"):
            Tool.from_function(function)


def test_names_must_differ() -> None:
    with pytest.raises(ValueError, match="two tools are named 'search'"):
        box(search, search)


def test_calls_by_name_and_by_position() -> None:
    toolbox = box(search)
    assert run(toolbox, "search", {"query": "a b", "k": 5}).output == "a b/5/False"
    assert run(toolbox, "search", ("a b", "5", "true")).output == "a b/5/True"
    assert run(toolbox, "search", ("7",)).output == "7/3/False"


def test_words_are_read_as_the_annotation_says() -> None:
    seen: list[Any] = []

    @tool(timeout=None)
    def function(a: float, b: int | None, c: Literal[1, 2], d: int | str) -> None:
        seen.append((a, b, c, d))

    toolbox = box(function)
    assert asyncio.run(toolbox.run(Call("function", ("0.5", "3", "2", "x")))).error is None
    assert asyncio.run(toolbox.run(Call("function", ("2", "null", "1", "7")))).error is None
    assert seen == [(0.5, 3, 2, "x"), (2.0, None, 1, 7)]
    for words in (("nan", "1", "1", "x"), ("inf", "1", "1", "x"), ("1", "x", "1", "x"), ("1", "1", "3", "x")):
        assert asyncio.run(toolbox.run(Call("function", words))).error == "bad_arguments"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "'query' is a required property"),
        ({"query": 1}, "query: 1 is not of type 'string'"),
        ({"query": None}, "is not of type 'string'"),
        ({"query": "a", "k": "3"}, "k: '3' is not of type 'integer'"),
        ({"query": "a", "k": 2.5}, "k: 2.5 is not of type 'integer'"),
        ({"query": "a", "k": True}, "k: True is not of type 'integer'"),
        ({"query": "a", "exact": 1}, "is not of type 'boolean'"),
        ({"query": "a", "colour": "red"}, "'colour' was unexpected"),
        ({"query": ["x" * 10_000]}, "is not of type 'string'"),
        (("a", "2", "true", "d"), "search takes 3 arguments (query, k, exact), found 4"),
        (("a", "two"), "k: 'two' is not of type 'integer'"),
        ((), "'query' is a required property"),
    ],
)
def test_bad_arguments_are_an_observation(arguments: dict[str, Any] | tuple[str, ...], complaint: str) -> None:
    result = run(box(search, max_output=1000), "search", arguments)
    assert result.error == "bad_arguments"
    assert result.output.startswith("Error: search")
    assert len(result.output) < 400
    if not isinstance(arguments, dict) or "x" * 300 not in str(arguments):
        assert complaint in result.output


def test_an_integer_may_be_written_with_a_point() -> None:
    result = run(box(search), "search", {"query": "a", "k": 2.0})
    assert result.output == "a/2/False"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("serach", "did you mean 'search'?"), ("zzz", "the tools are search"), ("\ud800", "the tools are")],
)
def test_an_unknown_tool_gets_a_hint(name: str, hint: str) -> None:
    result = run(box(search), name, {})
    assert result.error == "unknown_tool"
    assert hint in result.output
    result.output.encode()


def test_an_environment_without_tools_says_so() -> None:
    assert "this environment has no tools" in run(box(), "search", {}).output


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


FAILURES: list[tuple[BaseException, str]] = [
    (ToolError("the document is not there"), "Error: the document is not there"),
    (ValueError("bad"), "Error: ValueError: bad"),
    (StopIteration(3), "Error: StopIteration: 3"),
    (SystemExit(1), "Error: SystemExit: 1"),
    (TimeoutError("socket"), "Error: TimeoutError: socket"),
    (RecursionError(), "Error: RecursionError"),
    (asyncio.CancelledError(), "Error: CancelledError"),
    (Unprintable(), "Error: Unprintable: (its message cannot be shown)"),
]


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("failure", "output"), FAILURES, ids=lambda f: type(f).__name__)
def test_whatever_a_tool_raises_is_an_observation(
    failure: BaseException, output: str, is_async: bool, timeout: float | None
) -> None:
    @tool(timeout=timeout)
    def failing() -> str:
        raise failure

    async def failing_later() -> str:
        await asyncio.sleep(0)
        raise failure

    if isinstance(failure, asyncio.CancelledError) and not is_async and timeout is None:
        pytest.skip("a plain function has nothing to cancel")
    failing_later.__name__ = "failing"
    result = run(box(tool(timeout=timeout)(failing_later) if is_async else failing), "failing", {})
    if isinstance(failure, StopIteration) and is_async:
        output = "Error: RuntimeError: coroutine raised StopIteration"  # Python's own rule
    assert (result.error, result.output) == ("tool_error", output)


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_infrastructure_fault_passes_through(is_async: bool, timeout: float | None) -> None:
    @tool(timeout=timeout)
    def down() -> str:
        raise InfrastructureFault("the index is gone")

    @tool(timeout=timeout)
    async def down_later() -> str:
        raise InfrastructureFault("the index is gone")

    function = down_later if is_async else down
    with pytest.raises(InfrastructureFault, match="the index is gone"):
        asyncio.run(box(function).run(Call(function.__name__, {})))


def test_a_function_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    @tool(timeout=0.05)
    def hang() -> str:
        release.wait(30)
        return "late"

    result = run(box(hang), "hang", {})
    release.set()
    assert (result.error, result.output) == ("timeout", "Error: hang took longer than 0.05 seconds")


def test_a_result_that_comes_too_late_disturbs_nobody() -> None:
    async def attempt() -> list[dict[str, Any]]:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        release, finished = threading.Event(), threading.Event()

        @tool(timeout=0.01)
        def late() -> str:
            release.wait(20)
            finished.set()
            return "late"

        assert (await box(late).run(Call("late", {}))).error == "timeout"
        release.set()
        await asyncio.to_thread(finished.wait, 20)
        await asyncio.sleep(0.05)
        return complaints

    assert asyncio.run(attempt()) == []


def test_a_coroutine_that_hangs_is_cancelled() -> None:
    cancelled = []

    @tool(timeout=0.05)
    async def hang() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "late"

    assert run(box(hang), "hang", {}).error == "timeout"
    assert cancelled


def test_a_coroutine_that_ignores_its_cancellation_is_left_behind() -> None:
    async def attempt() -> tuple[CallResult, float]:
        release = asyncio.Event()

        @tool(timeout=0.05)
        async def stubborn() -> str:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            return "late"

        began = time.perf_counter()
        result = await box(stubborn).run(Call("stubborn", {}))
        seconds = time.perf_counter() - began
        release.set()
        await asyncio.sleep(0)
        return result, seconds

    result, seconds = asyncio.run(attempt())
    assert result.error == "timeout"
    assert seconds < 10


def test_a_flood_is_cut_in_the_middle() -> None:
    @tool(timeout=None)
    def flood() -> str:
        return "a" * 1_000_000 + "b" * 1_000_000

    output = run(box(flood), "flood", {}).output
    assert output == "a" * 70 + "\n[1999860 of 2000000 characters cut]\n" + "b" * 70
    assert len(output) <= 200, "what was cut is not cut again"
    assert len(asyncio.run(box(flood, max_output=1).run(Call("flood", {}))).output) < 60
    with pytest.raises(ValueError, match="max_output"):
        box(flood, max_output=0)


def test_values_become_json() -> None:
    circular: list[Any] = []
    circular.append(circular)
    values: dict[str, tuple[Any, str]] = {
        "none": (None, "null"),
        "mapping": ({"é": [1, 0.5, True]}, '{"é": [1, 0.5, true]}'),
        "object": (ValueError, "\"<class 'ValueError'>\""),
        "bytes": (b"x", "\"b'x'\""),
        "surrogates": ("a\ud800b", "a?b"),
        "nul": ("a\x00b", "a\x00b"),
        "circular": (circular, "Error: ValueError: Circular reference detected"),
        "keys": ({(1,): 2}, "Error: TypeError: keys must be str, int, float, bool or None, not tuple"),
    }

    def give(name: str) -> Any:
        return values[name][0]

    for timeout in (None, 20.0):
        toolbox = box(tool(timeout=timeout)(give))
        for name, (_, expected) in values.items():
            assert run(toolbox, "give", {"name": name}).output == expected
