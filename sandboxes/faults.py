"""Failures that are not the policy's doing.

Whatever the policy's own turn causes (bad syntax, a failing tool, a time-out of its code) is an observation. Everything
else that stops an episode (a sandbox, server or index that is not there) is an `InfrastructureFault`: the episode is
retried or left out of the loss, and counted; it is never a reward of zero.
"""


class InfrastructureFault(Exception):
    """Something the episode depends on failed through no fault of the policy."""


class SandboxUnavailable(InfrastructureFault):
    """The sandbox itself (not the code in it) could not start or answer."""
