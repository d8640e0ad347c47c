"""The leaderboard as static pages: no network, no server, readable without a script."""

from .build import Built, build_site

__all__ = ["Built", "build_site"]
