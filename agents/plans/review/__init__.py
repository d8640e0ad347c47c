"""The review page: a server for one machine, and the page that it serves."""

from .server import ReviewServer

__all__ = ["ReviewServer"]
