"""As whom sessions run: root makes them other users where it may; whoever else runs them as itself."""

from __future__ import annotations

import os
from collections.abc import Callable

NOBODY = 65534
# The first of the ids that systemd keeps for services' own users: nobody logs in with them.
FIRST_USER, USERS = 61184, 4000


def become(user: int) -> None:
    """Be a user and its group and nothing else, for good; raises `OSError`."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def others() -> bool:
    """Whether sessions run as other users than this process.

    Root of a user namespace that maps root alone (a rootless container) cannot become anybody else. Outside it, it is
    an ordinary user, and its sessions are held as those of one.

    Raises:
        OSError: root of the machine may not become another user. A session as root is no session: what it owns is the
            machine's.
    """
    if os.getuid() != 0:
        return False
    for user in (NOBODY, FIRST_USER, FIRST_USER + USERS - 1):
        why = failure(lambda: None, user)
        if why and os.stat("/proc/sys/kernel").st_uid == 0:  # Owned by the machine's root, whoever it is called here.
            raise OSError(
                f"root may not become user {user} here ({why}): allow CAP_SETUID and CAP_SETGID, or run as an ordinary "
                "user"
            )
        if why:
            return False
    return True


def failure(work: Callable[[], object], user: int | None) -> str:
    """Why something fails for a user (the present one when None), tried in a child; empty when it does not."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None:
                become(user)
            work()
        except BaseException as error:
            os.write(tell, (str(error) or type(error).__name__).encode("utf-8", "replace")[:4000])
            os._exit(1)
        os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as reader:
        said = reader.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    return said or (f"it ended with status {status}" if status else "")
