"""The protocol that every policy speaks: plan, then think, then act or answer.

turn = [plan] [think] act
act  = one or more tool calls | a summary | an answer
"""

from .codecs import Codec, JsonCodec, Spelling, WordsCodec, codec_for
from .errors import FormatError
from .parser import TurnParser, parse_tokens, parse_turn
from .plan import Plan, PlanStep
from .turn import Call, Mode, ParsedTurn, Section, SectionKind

__all__ = [
    "Call",
    "Codec",
    "FormatError",
    "JsonCodec",
    "Mode",
    "ParsedTurn",
    "Plan",
    "PlanStep",
    "Section",
    "SectionKind",
    "Spelling",
    "TurnParser",
    "WordsCodec",
    "codec_for",
    "parse_tokens",
    "parse_turn",
]
