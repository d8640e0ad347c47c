"""Episodes for other programs: ATIF, loss-free both ways, and chat messages for supervised fine-tuning elsewhere."""

from .atif import ATIF_VERSION, AtifError, episode_from_atif, episode_to_atif
from .chat import ChatRows
from .files import write_atif, write_chat

__all__ = [
    "ATIF_VERSION",
    "AtifError",
    "ChatRows",
    "episode_from_atif",
    "episode_to_atif",
    "write_atif",
    "write_chat",
]
