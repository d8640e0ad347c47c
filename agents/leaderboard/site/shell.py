"""What every page of the site has in common."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources

from ...report.escape import escape


def render(title: str, body: str, *, up: str = "", script: str = "") -> str:
    """A whole page. Its policy allows the one script that it brings and no request, whatever text got into it.

    Args:
        title: Plain text.
        body: HTML.
        up: A link to the board, empty on the board itself.
        script: JavaScript that goes on where the page without it leaves off.
    """
    code = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    back = f'<nav><a href="{up}">← Leaderboard</a></nav>' if up else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src {code}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{_style()}</style>
</head>
<body>
<main>
{back}
{body}
<footer>Written by Forethought. Ranges are 95&nbsp;% intervals that resample tasks. ✓ verified: every episode was
played again without its model, and all numbers were computed again.</footer>
</main>
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


@functools.cache
def _style() -> str:
    page = importlib.resources.files("forethought.agents.report").joinpath("page.css").read_text("utf-8")
    return page + importlib.resources.files(__package__).joinpath("site.css").read_text("utf-8")


@functools.cache
def table_script() -> str:
    """The script that sorts and filters tables."""
    return importlib.resources.files(__package__).joinpath("table.js").read_text("utf-8")
