"""The system calls that code in a sandbox may make: an allow-list as classic BPF, built without libseccomp.

Derived from moby's default profile, less what code that computes does not need and what has a history: io_uring, bpf,
ptrace and its relatives, keyrings, System V and POSIX queues and shared memory, memfd (pages nobody counts), handles,
vmsplice, scheduling classes, uid changes, personality, every socket family except AF_UNIX, the new mount interface.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable

from .numbers import AUDIT_ARCH, MACHINE, numbers
from .syscalls import prctl, syscall

ALLOWED = """
accept accept4 access alarm arch_prctl bind brk capget chdir chmod chown clock_getres clock_gettime clock_nanosleep
close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait
epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate
fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr
fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat
get_robust_list getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid
getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt
gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioprio_get kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listxattr
llistxattr lremovexattr lseek lsetxattr lstat madvise membarrier mincore mkdir mkdirat mknod mknodat mlock mlock2 mmap
mprotect mremap mseal msync munlock munmap nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal
pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 pselect6 pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg removexattr rename renameat
renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_yield seccomp select sendfile sendmmsg
sendmsg sendto set_robust_list set_tid_address setitimer setpgid setpriority setrlimit setsid setsockopt setxattr
shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statx symlink symlinkat sync_file_range sysinfo
tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
timerfd_settime times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork wait4 waitid write
writev
"""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 0x50001, 0x50026, 0x50061
_X32 = 0x40000000
_NUMBER, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_CLONE_NEW = 0x7E020080
_SET_NO_NEW_PRIVS = 38


class _Program:
    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []

    def add(self, operation: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        self.code.append((operation, if_true, if_false, value))

    def checked(self, number: int, body: list[tuple[int, int, int, int]]) -> None:
        """Run `body`, which ends in returns, for one system call only."""
        self.add(_EQUAL, number, 0, len(body))
        self.code += body

    def bytes(self) -> bytes:
        return b"".join(struct.pack("HBBI", *line) for line in self.code)


def ranges(values: Iterable[int]) -> list[tuple[int, int]]:
    """Consecutive numbers joined: (first, last)."""
    found: list[tuple[int, int]] = []
    for value in sorted(set(values)):
        if found and value == found[-1][1] + 1:
            found[-1] = (found[-1][0], value)
        else:
            found.append((value, value))
    return found


def build(*, namespaces: bool, signals: bool = True, machine: str = MACHINE) -> bytes:
    """The filter of one tier.

    Args:
        namespaces: Without them the process group is what a tree is killed by, so it may not be left.
        signals: Whether signals to other processes are confined by something else (a pid namespace, Landlock); if not,
            they are forbidden.
        machine: `x86_64` or `aarch64`.
    """
    number = numbers(machine)
    allowed = set(ALLOWED.split())
    if not namespaces:
        allowed -= {"setsid", "setpgid", "connect", "bind", "listen", "accept", "accept4"}
    if not signals:
        allowed -= {"kill", "tkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill"}
    program = _Program()
    program.add(_LOAD, _ARCH)
    program.add(_EQUAL, AUDIT_ARCH[machine], 1, 0)
    program.add(_RETURN, _KILL)
    program.add(_LOAD, _NUMBER)
    if machine == "x86_64":
        program.add(_AT_LEAST, _X32, 0, 1)
        program.add(_RETURN, _KILL)
    # The arguments of clone3 cannot be inspected; ENOSYS makes the C library use clone.
    program.checked(number["clone3"], [(_RETURN, 0, 0, _ENOSYS)])
    allow, forbid = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)
    program.checked(number["clone"], [(_LOAD, 0, 0, _ARG0), (_ANY_BIT, 0, 1, _CLONE_NEW), forbid, allow])
    # Only the low half of the request counts (CVE-2019-10063): TIOCSTI and TIOCLINUX type into a terminal.
    program.checked(
        number["ioctl"],
        [(_LOAD, 0, 0, _ARG1), (_EQUAL, 1, 0, 0x5412), (_EQUAL, 0, 1, 0x541C), forbid, allow],
    )
    if namespaces:
        body = [(_LOAD, 0, 0, _ARG0), (_EQUAL, 0, 1, 1), allow, (_RETURN, 0, 0, _EAFNOSUPPORT)]
    else:
        body = [(_RETURN, 0, 0, _EAFNOSUPPORT)]
    program.checked(number["socket"], body)
    spans = ranges(number[name] for name in allowed if name in number)
    for first, last in spans:
        if first == last:
            program.add(_EQUAL, first, 0, 1)
        else:
            program.add(_AT_LEAST, first, 0, 2)
            program.add(_AT_LEAST, last + 1, 1, 0)
        program.add(_RETURN, _ALLOW)
    # A C library tries new calls first and goes on with old ones only when the new one does not exist.
    program.add(_AT_LEAST, spans[-1][1] + 1, 0, 1)
    program.add(_RETURN, _ENOSYS)
    program.add(_RETURN, _EPERM)
    return program.bytes()


def install(program: bytes) -> None:
    """Put this process and all it starts under the filter, for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    prctl(_SET_NO_NEW_PRIVS, 1)
    syscall("seccomp", 1, 0, header)
