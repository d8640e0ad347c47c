"""The agents that commands take by name, and the options that go with them."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..libraries import quiet_libraries, use_one_thread

if TYPE_CHECKING:
    from ...agents.agent import Agent
    from ...agents.context_format import PlainFormat
    from ...envs.tool_env import ToolEnv

_SMALL_MODEL_BYTES = 200 << 20


def add_agent(command: argparse.ArgumentParser) -> None:
    """Add the argument that names an agent, and its options."""
    command.add_argument(
        "agent",
        help="a model's folder or hub name, script:module:function, python:module:function (called without arguments, "
        "returns an Agent), or the address of a chat server (http://...)",
    )
    command.add_argument("--temperature", type=float, default=1.0)
    command.add_argument(
        "--window",
        nargs="*",
        default=[],
        metavar="name=value",
        help="context window, such as policy=learned limit=8192",
    )
    command.add_argument("--concurrency", type=positive, default=64, help="most episodes in flight (64)")
    command.add_argument("--server-model", metavar="NAME", help="the model's name at the chat server")
    command.add_argument("--key-variable", metavar="NAME", help="environment variable that holds the chat server's key")
    command.add_argument(
        "--length-parameter", default="max_tokens", help="the server's name for the most tokens of a turn"
    )


def positive(text: str) -> int:
    """A number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, found {value}")
    return value


def agent_maker(options: argparse.Namespace, max_turn_tokens: int) -> Callable[[ToolEnv], Agent]:
    """What makes the agent that the options name, for an environment.

    Raises:
        ConfigError: there is no such script or function, or an option is missing or wrong.
        ModelError: there is no such model.
        MissingExtra: what it needs is not installed.
    """
    from ...agents.agent import ScriptedAgent
    from ...agents.engine import SamplingParams
    from ..extras import import_extra
    from ..recipe import WindowTable
    from ..scripts import load_script
    from ..toml_tables import ConfigError, Source, apply_overrides, build

    tables: dict[str, Any] = {}
    apply_overrides(tables, options.window)
    window = build(WindowTable, tables, Source("--window", "", options.window)).window()
    params = SamplingParams(max_tokens=max_turn_tokens, temperature=options.temperature)
    name: str = options.agent
    if name.startswith("script:"):
        script = load_script(name.removeprefix("script:"))
        return lambda env: ScriptedAgent(script, _format_of_scripts(env), window=window)
    if name.startswith("python:"):
        agent = _python_agent(name.removeprefix("python:"))
    elif name.startswith(("http://", "https://")):
        if options.server_model is None:
            raise ConfigError(f"which model at {name}? Give --server-model NAME")
        import_extra("openai", "server")
        from ...agents.engines.chat_server import ChatServer
        from ...agents.engines.chat_server_agent import chat_server_agent

        try:
            server = ChatServer(
                name, options.server_model, key_variable=options.key_variable, concurrency=options.concurrency
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None
        agent = chat_server_agent(
            server, sampling=params, length_parameter=options.length_parameter, window=window
        )  # fmt: skip
    else:
        import_extra("torch", "train")
        import_extra("transformers", "train")
        quiet_libraries()
        from ...agents.local_model import load_model_agent

        folder = Path(name)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else None
        if weights is not None and weights < _SMALL_MODEL_BYTES:
            use_one_thread()
        agent = load_model_agent(name, sampling=params, slots=options.concurrency, window=window)
    return lambda env: agent


def _python_agent(name: str) -> Any:
    """The agent that `module:function` returns."""
    from ..toml_tables import ConfigError

    module_name, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), function, None)
    except (ImportError, SyntaxError, ValueError) as error:
        raise ConfigError(f"agent {name!r}: {error}") from None
    if not callable(make):
        raise ConfigError(
            f"agent {name!r}: expected python:module:function, {module_name} has no function {function!r}"
        )
    agent = make()
    missing = [part for part in ("name", "format", "sampling", "window", "engine_for") if not hasattr(agent, part)]
    if missing:
        raise ConfigError(
            f"agent {name!r}: expected a forethought.agents.Agent, found {type(agent).__name__} without {missing[0]!r}"
        )
    return agent


def _format_of_scripts(env: ToolEnv) -> PlainFormat | None:
    """Words where the environment is written in them, so that tokens are counted like those of its models."""
    from ...agents.context_format import PlainFormat
    from ...agents.tokenizers import WordTokenizer
    from ...envs.protocol import Spelling

    if env.codec.spelling != Spelling.WORDS:
        return None
    try:
        return PlainFormat(WordTokenizer(env.vocabulary()))
    except ValueError:  # an open vocabulary
        return None
