"""Prompts that begin alike: attempts at one task, sub-tasks under the same instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .requests import Request
from .slots import common_prefix

SHORTEST = 16
"""Tokens from which on a common beginning is read once and copied."""


@dataclass(slots=True)
class Group:
    """Requests whose prompts begin alike."""

    leader: Request
    """Its prompt is read whole."""
    followers: list[Request] = field(default_factory=list)
    shared: int = 0
    """Tokens that every follower's prompt has in common with the leader's, the last of the prompt never among them."""


def group_by_prefix(requests: Sequence[Request]) -> list[Group]:
    """Group requests by the beginnings of their prompts, leaders from short to long, else in the order they came.

    In sorted order nobody shares more with an earlier prompt than with the one before; in descending order a prompt
    comes before its own beginnings. A group ends where less than `SHORTEST` tokens, or less than half of what the group
    shares, would be left in common.
    """
    groups: list[Group] = []
    for request in sorted(requests, key=lambda request: request.prompt, reverse=True):
        group = groups[-1] if groups else None
        if group is not None:
            shared = common_prefix(group.leader.prompt, request.prompt)
            shared = min(shared, len(request.prompt) - 1, len(group.leader.prompt) - 1)
            if shared >= max(SHORTEST, group.shared // 2):
                group.shared = min(shared, group.shared) if group.followers else shared
                group.followers.append(request)
                continue
        groups.append(Group(request))
    came = {id(request): number for number, request in enumerate(requests)}
    return sorted(groups, key=lambda group: (len(group.leader.prompt), came[id(group.leader)]))
