"""What every backend must do: inherit `SandboxConformance`, say how to make the sandbox, and run it with pytest.

    class TestMine(SandboxConformance):
        async def make(self, limits: Limits) -> Sandbox:
            return MySandbox(limits)

The tests are asynchronous: pytest-asyncio in its `auto` mode runs them.
"""

# ruff: noqa: D102 - the names of the tests say what they test

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .sandbox import Limits, RunResult, RunStatus, Sandbox, SandboxUsageError, Session

LIMITS = Limits(
    wall_seconds=8.0,
    cpu_seconds=30.0,
    memory_bytes=256 * 2**20,
    processes=32,
    disk_bytes=8 * 2**20,
    inodes=256,
    output_bytes=4096,
    value_bytes=1024,
    open_files=64,
)
UNSTOPPABLE = """
import signal, time
for number in (2, 15, 1, 3): signal.signal(number, signal.SIG_IGN)
while True: time.sleep(0.01)
"""


class SandboxConformance:
    """The behaviours; each is one test."""

    late_seconds = 0.1
    """How long after a time limit everything must have ended."""
    disk_is_exact = True
    """Whether writes beyond the disk limits fail; else whoever makes them may be ended instead."""

    async def make(self, limits: Limits) -> Sandbox:
        """The sandbox under test, not started."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def sandbox(self) -> AsyncIterator[Sandbox]:
        """A started sandbox."""
        sandbox = await self.make(LIMITS)
        await sandbox.start()
        yield sandbox
        await sandbox.close()

    @pytest_asyncio.fixture
    async def session(self, sandbox: Sandbox) -> AsyncIterator[Session]:
        """A pristine session."""
        session = await sandbox.open()
        yield session
        await session.close()

    # Cells

    async def test_a_cell_gives_its_output_and_value(self, session: Session) -> None:
        result = await session.run_cell("import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
        assert (result.status, result.stdout, result.stderr) == (RunStatus.OK, "out\n", "err\n")
        assert (result.value, result.error, result.exit_code, result.alive) == ("42", None, None, True)
        assert 0 < result.wall_seconds < 5 and not result.truncated

    async def test_a_cell_without_a_last_expression_has_no_value(self, session: Session) -> None:
        assert (await session.run_cell("x = 1")).value is None
        assert (await session.run_cell("None")).value is None
        assert (await session.run_cell("")).status is RunStatus.OK

    async def test_names_live_on(self, session: Session) -> None:
        await session.run_cell("x = 1\ndef f(): return x")
        await session.run_cell("x += 1")
        assert (await session.run_cell("f()")).value == "2"

    async def test_classes_and_imports_work_across_cells(self, session: Session) -> None:
        await session.run_cell("import math, dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 3")
        assert (await session.run_cell("math.gcd(P().x, 6), __name__")).value == "(3, '__main__')"

    async def test_an_exception_is_a_result_with_its_traceback(self, session: Session) -> None:
        result = await session.run_cell("def f():\n    return 1 / 0\nf()")
        assert result.status is RunStatus.ERROR and result.alive
        assert result.error is not None and "ZeroDivisionError" in result.error and "return 1 / 0" in result.error

    async def test_a_syntax_error_is_a_result(self, session: Session) -> None:
        result = await session.run_cell("def f(:")
        assert result.status is RunStatus.ERROR and "SyntaxError" in (result.error or "") and result.alive

    @pytest.mark.parametrize("code", ["'\ud800'", "\0", "x = '\udcff'"], ids=["surrogate", "nul", "escape"])
    async def test_source_that_is_no_text_is_a_result(self, session: Session, code: str) -> None:
        result = await session.run_cell(code)
        assert result.status is RunStatus.ERROR and result.error and result.alive

    async def test_a_very_long_source_is_a_result(self, session: Session) -> None:
        result = await session.run_cell("#" + "x" * 50_000_000)
        assert result.status in (RunStatus.OK, RunStatus.ERROR)
        assert (await session.run_cell("1")).value == "1"

    async def test_deeply_nested_source_is_a_result(self, session: Session) -> None:
        result = await session.run_cell("(" * 5000 + ")" * 5000)
        assert result.status in (RunStatus.ERROR, RunStatus.KILLED)

    @pytest.mark.parametrize("code", ["exit(0)", "import sys; sys.exit(0)", "raise SystemExit(3)"])
    async def test_leaving_is_an_error_and_the_state_stays(self, session: Session, code: str) -> None:
        await session.run_cell("kept = 5")
        result = await session.run_cell(code)
        assert result.status in (RunStatus.ERROR, RunStatus.KILLED)
        if result.alive:
            assert (await session.run_cell("kept")).value == "5"

    async def test_a_hard_exit_is_killed(self, session: Session) -> None:
        result = await session.run_cell("import os; print('before', flush=True); os._exit(0)")
        assert result.status is RunStatus.KILLED and not result.alive and result.error
        assert result.stdout == "before\n"

    async def test_a_crash_is_killed(self, session: Session) -> None:
        result = await session.run_cell("import ctypes; ctypes.string_at(0)")
        assert result.status is RunStatus.KILLED and not result.alive

    async def test_a_dead_session_says_so(self, session: Session) -> None:
        await session.run_cell("import os; os._exit(0)")
        again = await session.run_cell("1")
        assert again.status is RunStatus.KILLED and not again.alive and again.error
        assert (await session.run_program(["true"])).status is RunStatus.KILLED

    async def test_input_is_at_its_end(self, session: Session) -> None:
        assert "EOFError" in ((await session.run_cell("input()")).error or "")

    async def test_an_exception_that_cannot_be_shown(self, session: Session) -> None:
        code = "class E(Exception):\n    def __str__(self): raise E()\nraise E()"
        assert (await session.run_cell(code)).status is RunStatus.ERROR

    async def test_a_repr_that_fails_is_an_error(self, session: Session) -> None:
        code = "class R:\n    def __repr__(self): raise ValueError('no repr')\nR()"
        assert "no repr" in ((await session.run_cell(code)).error or "")

    async def test_a_child_that_returns_from_the_cell_is_no_answer(self, session: Session) -> None:
        assert (await session.run_cell("import os\nx = os.fork()\nx > 0")).value == "True"
        assert (await session.run_cell("2")).value == "2"

    async def test_closed_streams_do_not_hang(self, session: Session) -> None:
        assert (await session.run_cell("import os; os.close(1); os.close(2)")).status is RunStatus.OK
        assert (await session.run_cell("7")).value == "7"

    async def test_a_forged_answer_costs_only_the_session(self, sandbox: Sandbox, session: Session) -> None:
        code = (
            "import os, time\nfor i in range(3, 20):\n    try: os.write(i, b'\\xff' * 4096)\n    except OSError: pass\n"
        )
        result = await session.run_cell(code + "time.sleep(30)", timeout=2)
        assert result.status in (RunStatus.KILLED, RunStatus.TIMEOUT)
        other = await sandbox.open()
        assert (await other.run_cell("1")).value == "1"
        await other.close()

    # Time

    async def test_a_time_out_keeps_the_state(self, session: Session) -> None:
        await session.run_cell("kept = 3")
        began = time.monotonic()
        result = await session.run_cell("import time; print('begun'); time.sleep(60)", timeout=0.3)
        assert result.status is RunStatus.TIMEOUT and result.alive and result.stdout == "begun\n"
        assert 0.3 <= time.monotonic() - began < 2
        assert (await session.run_cell("kept")).value == "3"

    async def test_what_cannot_be_interrupted_is_killed(self, session: Session) -> None:
        began = time.monotonic()
        result = await session.run_cell(UNSTOPPABLE, timeout=0.3)
        assert result.status is RunStatus.TIMEOUT and not result.alive
        assert time.monotonic() - began < 0.3 + self.late_seconds + 0.5  # Other tests share the processors.

    async def test_a_time_out_beyond_the_limit_is_the_limit(self) -> None:
        sandbox = await self.make(Limits(wall_seconds=0.3))
        session = await sandbox.open()
        assert (await session.run_cell("import time; time.sleep(60)", timeout=50)).status is RunStatus.TIMEOUT
        await sandbox.close()

    async def test_processor_time_is_limited(self) -> None:
        sandbox = await self.make(Limits(wall_seconds=20, cpu_seconds=1))
        session = await sandbox.open()
        result = await session.run_cell("import os\nfor _ in range(2): os.fork()\nwhile True: 7 ** 77")
        assert result.status is RunStatus.TIMEOUT and result.wall_seconds < 10
        await sandbox.close()

    async def test_a_cancelled_run_leaves_the_pool_healthy(self, sandbox: Sandbox) -> None:
        session = await sandbox.open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.run_cell("import time; time.sleep(30)"), 0.2)
        await session.close()
        other = await sandbox.open()
        assert (await other.run_cell("1")).value == "1"
        await other.close()

    # Output

    async def test_long_output_keeps_head_and_tail(self, session: Session) -> None:
        result = await session.run_cell("print('HEAD' + 'x' * 100_000 + 'TAIL')")
        assert result.truncated and result.status is RunStatus.OK
        assert result.stdout.startswith("HEAD") and result.stdout.endswith("TAIL\n")
        assert len(result.stdout) < LIMITS.output_bytes + 200

    async def test_a_flood_is_ended(self, session: Session) -> None:
        result = await session.run_cell("while True: print('x' * 65536)", timeout=6)
        assert result.status in (RunStatus.OUTPUT_LIMIT, RunStatus.TIMEOUT) and result.truncated

    async def test_a_long_value_is_cut(self, session: Session) -> None:
        result = await session.run_cell("'y' * 1_000_000")
        assert result.truncated and result.value is not None and len(result.value) < LIMITS.value_bytes + 200

    async def test_bytes_that_are_no_text_are_replaced(self, session: Session) -> None:
        result = await session.run_cell("import os; os.write(1, b'a\\xff\\x00\\x1b[2J'); '\\ud800'")
        assert result.stdout == "a\ufffd\0\x1b[2J" and result.status is RunStatus.OK

    async def test_output_of_children_is_output(self, session: Session) -> None:
        result = await session.run_cell("import subprocess; subprocess.run(['echo', 'child']).returncode")
        assert (result.stdout, result.value) == ("child\n", "0")

    async def test_a_thread_that_goes_on_printing_hangs_nothing(self, session: Session) -> None:
        code = "import threading, time\ndef f():\n    while True: print('spam', flush=True); time.sleep(0.001)\n"
        await session.run_cell(code + "threading.Thread(target=f, daemon=True).start()")
        assert (await session.run_cell("8", timeout=3)).value == "8"

    # Programs

    async def test_a_program_has_output_and_exit_code(self, session: Session) -> None:
        result = await session.run_program(
            ["python3", "-c", "import sys; print(input()); sys.exit(3)"], stdin="given\n"
        )
        assert (result.status, result.stdout, result.exit_code) == (RunStatus.ERROR, "given\n", 3)
        result = await session.run_program(["sh", "-c", "echo fine; echo bad >&2"])
        assert (result.status, result.stdout, result.stderr) == (RunStatus.OK, "fine\n", "bad\n")
        assert result.exit_code == 0 and result.value is None and result.alive

    async def test_a_program_that_is_not_there(self, session: Session) -> None:
        result = await session.run_program(["no-such-program"])
        assert result.status is RunStatus.ERROR and result.exit_code == 127

    async def test_a_program_reads_long_input(self, session: Session) -> None:
        data = b"z" * 1_000_000
        result = await session.run_program(
            ["python3", "-c", "import sys; print(len(sys.stdin.buffer.read()))"], stdin=data
        )
        assert result.stdout == "1000000\n"

    async def test_a_program_has_its_environment_and_none_of_the_hosts(
        self, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOST_SECRET", "canary")
        result = await session.run_program(["env"], environment={"MINE": "yes"})
        assert "MINE=yes" in result.stdout and "canary" not in result.stdout and "PATH=" in result.stdout
        assert "canary" not in str(await session.run_cell("import os; dict(os.environ)"))

    async def test_a_program_runs_in_the_work_folder(self, session: Session) -> None:
        await session.run_cell("open('from_cell.txt', 'w').write('1')")
        result = await session.run_program(["sh", "-c", "cat from_cell.txt; echo 2 > from_program.txt"])
        assert result.stdout == "1"
        assert (await session.run_cell("open('from_program.txt').read()")).value == repr("2\n")

    async def test_a_program_out_of_time_ends_with_its_tree(self, session: Session) -> None:
        began = time.monotonic()
        code = "import os, time\nos.fork()\ntime.sleep(60)"
        result = await session.run_program(["python3", "-c", code], timeout=0.5)
        assert result.status is RunStatus.TIMEOUT and result.exit_code is None
        assert time.monotonic() - began < 3
        assert (await session.run_cell("'the session lives'")).status is RunStatus.OK

    async def test_what_a_program_leaves_behind_is_ended(self, session: Session) -> None:
        code = "(while true; do echo x >> ticks; sleep 0.02; done) & sleep 0.1"
        assert (await session.run_program(["sh", "-c", code])).status is RunStatus.OK
        first = await session.get_file("ticks")
        await asyncio.sleep(0.2)
        assert await session.get_file("ticks") == first

    async def test_a_program_killed_by_a_signal(self, session: Session) -> None:
        result = await session.run_program(["sh", "-c", "kill -9 $$"])
        assert result.status is RunStatus.KILLED and result.exit_code is None and result.alive

    async def test_programs_cannot_be_asked_for_nonsense(self, session: Session) -> None:
        for arguments in ([], [""], ["echo", "a\0b"]):
            with pytest.raises(SandboxUsageError):
                await session.run_program(arguments)

    # Files

    async def test_files_go_in_and_out(self, session: Session) -> None:
        data = bytes(range(256)) * 1000
        await session.put_file("deep/er/data.bin", data)
        assert await session.get_file("deep/er/data.bin") == data
        assert (await session.run_cell("len(open('deep/er/data.bin', 'rb').read())")).value == str(len(data))
        await session.run_cell("open('deep/er/data.bin', 'a').write('x'); open('own.txt', 'w').write('y')")
        assert await session.list_files() == ["deep/er/data.bin", "own.txt"]
        await session.put_file("deep/er/data.bin", b"")
        assert await session.get_file("deep/er/data.bin") == b""

    @pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\0b", "a/.."])
    async def test_paths_stay_inside(self, session: Session, path: str) -> None:
        with pytest.raises(SandboxUsageError):
            await session.put_file(path, b"x")
        with pytest.raises(SandboxUsageError):
            await session.get_file(path)

    async def test_links_are_not_followed(self, session: Session) -> None:
        await session.run_cell("import os\nos.symlink('/etc', 'out'); os.symlink('/etc/passwd', 'link')")
        for path in ("link", "out/passwd", "out/new"):
            with pytest.raises(SandboxUsageError):
                await session.get_file(path)
            with pytest.raises(SandboxUsageError):
                await session.put_file(path, b"x")
        assert await session.list_files() == []

    async def test_only_regular_files_come_out(self, session: Session) -> None:
        await session.run_cell("import os\nos.mkdir('folder')\ntry: os.mkfifo('pipe')\nexcept OSError: pass")
        for path in ("pipe", "folder", "missing"):
            with pytest.raises(SandboxUsageError):
                await asyncio.wait_for(session.get_file(path), 5)

    async def test_a_file_that_is_too_large_stays(self, session: Session) -> None:
        await session.put_file("large", b"x" * 2000)
        with pytest.raises(SandboxUsageError, match="2000"):
            await session.get_file("large", max_bytes=1999)
        assert len(await session.get_file("large", max_bytes=2000)) == 2000

    async def test_odd_names_and_deep_folders_are_harmless(self, session: Session) -> None:
        code = "import os\nopen(b'bad\\xff\\nname', 'w').close()\nos.mkdir('shut'); os.chmod('shut', 0)\np = '.'\n"
        await session.run_cell(code + "for i in range(100):\n    p += '/d'; os.mkdir(p)")
        assert len(await session.list_files()) == 1
        await session.reset()
        assert await session.list_files() == []

    # Limits

    async def test_memory_is_limited(self, session: Session) -> None:
        code = "kept = []\nwhile len(kept) < 64: kept.append(bytearray(16 << 20))\nprint('NO LIMIT')"
        self.assert_memory_limited(await session.run_cell(code))

    async def test_shared_memory_is_limited(self, session: Session) -> None:
        code = (
            "import mmap\nkept = []\nwhile len(kept) < 64:\n    m = mmap.mmap(-1, 16 << 20); m[::4096] = b'x' * 4096; "
        )
        self.assert_memory_limited(await session.run_cell(code + "kept.append(m)\nprint('NO LIMIT')"))

    async def test_memory_of_children_counts_together(self, session: Session) -> None:
        code = (
            "import os, time\nchildren = []\nfor i in range(8):\n    pid = os.fork()\n    if pid == 0:\n"
            "        kept = bytearray(64 << 20); kept[::4096] = b'x' * 16384; time.sleep(2); os._exit(0)\n"
            "    children.append(pid)\nprint('ALL FINE', all(os.waitpid(p, 0)[1] == 0 for p in children))"
        )
        assert "ALL FINE True" not in (await session.run_cell(code)).stdout

    def assert_memory_limited(self, result: RunResult) -> None:
        """A kill by the host, or an exception in the cell."""
        assert "NO LIMIT" not in result.stdout
        refused = any(word in (result.error or "") for word in ("MemoryError", "OSError", "memory"))
        assert result.status is RunStatus.MEMORY or (result.status is RunStatus.ERROR and refused)

    async def test_processes_are_limited(self, session: Session) -> None:
        code = (
            "import os, time\nn = 0\ntry:\n    while n < 500:\n        if os.fork() == 0: time.sleep(20); os._exit(0)\n"
        )
        result = await session.run_cell(code + "        n += 1\nexcept OSError: pass\nn")
        assert result.status is RunStatus.KILLED or int(result.value or 500) <= LIMITS.processes

    async def test_threads_are_limited(self, session: Session) -> None:
        code = (
            "import threading, time\nn = 0\ntry:\n    while n < 500:\n"
            "        threading.Thread(target=time.sleep, args=(20,), daemon=True).start(); n += 1\n"
            "except RuntimeError: pass\nn"
        )
        result = await session.run_cell(code)
        assert result.status is RunStatus.KILLED or int(result.value or 500) <= LIMITS.processes

    async def test_disk_is_limited(self, session: Session) -> None:
        code = (
            "import time\nn = 0\ntry:\n    for i in range(40):\n"
            "        f = open(f'f{i}', 'wb'); f.write(b'x' * (1 << 20)); f.flush(); n += 1; time.sleep(0.02)\n"
            "except OSError: pass\nn"
        )
        result = await session.run_cell(code)
        if self.disk_is_exact:
            assert result.value is not None and int(result.value) <= LIMITS.disk_bytes >> 20
        else:
            assert result.status is RunStatus.KILLED

    async def test_the_number_of_files_is_limited(self, session: Session) -> None:
        code = (
            "import time\nn = 0\ntry:\n    for i in range(5000): open(f'f{i}', 'w').close(); n += 1\n"
            "    time.sleep(2)\nexcept OSError: pass\nn"
        )
        result = await session.run_cell(code)
        if self.disk_is_exact:
            assert result.value is not None and int(result.value) <= LIMITS.inodes
        else:
            assert result.status is RunStatus.KILLED

    async def test_open_files_are_limited(self, session: Session) -> None:
        result = await session.run_cell("kept = []\nwhile True: kept.append(open('/dev/null'))")
        assert result.status is RunStatus.ERROR and "Too many open files" in (result.error or "")

    async def test_there_is_no_network(self, session: Session) -> None:
        code = "import socket\nsocket.create_connection(('127.0.0.1', 9), 2)"
        result = await session.run_cell(code)
        assert result.status is RunStatus.ERROR and "Connection refused" not in (result.error or "")

    # Sessions

    async def test_sessions_do_not_see_each_other(self, sandbox: Sandbox) -> None:
        one, two = await sandbox.open(), await sandbox.open()
        await one.run_cell("x = 1; open('file', 'w').write('1')\nimport math; math.tau = 7")
        assert "NameError" in ((await two.run_cell("x")).error or "")
        assert (await two.run_cell("import math; math.tau > 6.5")).value == "False"
        assert await two.list_files() == []
        await asyncio.gather(one.close(), two.close())

    async def test_sessions_run_at_the_same_time(self, sandbox: Sandbox) -> None:
        sessions = await asyncio.gather(*(sandbox.open() for _ in range(4)))
        began = time.monotonic()
        await asyncio.gather(*(session.run_cell("import time; time.sleep(0.5)") for session in sessions))
        assert time.monotonic() - began < 1.8
        await asyncio.gather(*(session.close() for session in sessions))

    async def test_runs_of_one_session_are_serialised(self, session: Session) -> None:
        await session.run_cell("n = 0")
        code = "import time\nseen = n; time.sleep(0.02); n = seen + 1"
        await asyncio.gather(*(session.run_cell(code) for _ in range(5)))
        assert (await session.run_cell("n")).value == "5"

    async def test_reset_makes_it_pristine(self, session: Session) -> None:
        await session.run_cell("x = 1; open('file', 'w').write('1')")
        await session.reset()
        assert "NameError" in ((await session.run_cell("x")).error or "")
        assert await session.list_files() == []

    async def test_reset_revives(self, session: Session) -> None:
        await session.run_cell("import os; os._exit(1)")
        await session.reset()
        assert (await session.run_cell("1")).value == "1"

    async def test_a_closed_session_is_refused(self, sandbox: Sandbox) -> None:
        session = await sandbox.open()
        await session.close()
        await session.close()
        for use in (session.run_cell("1"), session.run_program(["true"]), session.put_file("a", b""), session.reset()):
            with pytest.raises(SandboxUsageError, match="closed"):
                await use

    @pytest.mark.parametrize("code", ["import time; time.sleep(30)", UNSTOPPABLE, "while True: print('x' * 1000)"])
    async def test_closing_ends_what_runs(self, sandbox: Sandbox, code: str) -> None:
        for pause in (0.0, 0.05, 0.31):
            session = await sandbox.open()
            running = asyncio.ensure_future(session.run_cell(code, timeout=0.3))
            await asyncio.sleep(pause)
            await session.close()
            try:
                result = await asyncio.wait_for(running, 5)
            except SandboxUsageError as error:
                assert "closed" in str(error)
            else:
                assert result.status is not RunStatus.OK
        other = await sandbox.open()
        assert (await other.run_cell("1")).value == "1"
        await other.close()

    async def test_the_sandbox_describes_what_holds(self, sandbox: Sandbox) -> None:
        about = sandbox.describe()
        assert about["backend"] and all(isinstance(value, str) for value in about.values())

    async def test_closing_twice_and_with_open_sessions(self) -> None:
        sandbox = await self.make(LIMITS)
        session = await sandbox.open()
        await session.run_cell("x = 1")
        await sandbox.close()
        await sandbox.close()
