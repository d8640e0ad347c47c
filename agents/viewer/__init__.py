"""The trace viewer: episodes of runs of any size, on a local page or in a terminal.

Nothing here needs a whole run in memory or a sound one on disk: `RunIndex` reads a file of episodes line by line while
it grows, `read_trace` takes what is sound of one line and says what is not.
"""

from .index import RunIndex
from .query import Query, ViewerError, parse_flags
from .runs import RunSet
from .server import ViewerServer
from .summary import Flag
from .terminal import episode_lines, find_episode, list_lines, write_lines
from .trace import Trace, read_line, read_trace

__all__ = [
    "Flag",
    "Query",
    "RunIndex",
    "RunSet",
    "Trace",
    "ViewerError",
    "ViewerServer",
    "episode_lines",
    "find_episode",
    "list_lines",
    "parse_flags",
    "read_line",
    "read_trace",
    "write_lines",
]
