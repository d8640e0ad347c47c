"""How many hostile programs each way of running a policy's code contains: ours, and what others do.

    python examples/benchmarks/sandbox_hostile.py ../shared/hostile/programs.json
    python examples/benchmarks/sandbox_hostile.py programs.json --gem ~/gem --skyrl ~/skyrl --only gem skyrl-gym

Every program of every contender runs in a jail of its own, which is the host that it may harm: namespaces with a
throw-away root, no network and, as root, a control group. One judge, in the jail, looks at all of them alike. Contained
means: the judge lives, nothing in the output says that something was reached, the run ended in time, the output is
bounded, no process and no file is left outside, and the next run is as clean as the one before.

GEM and skyrl-gym are measured as they come, in the environments that `--gem` and `--skyrl` name; bubblewrap as it is
commonly copied. The jail flatters those who hold nothing: devices and capabilities of a real host are not there to be
reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[str, float], str]
BWRAP = "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp"
UNSAFE = re.compile(r"ESCAPE|WEAK|NOLIMIT|WROTE|RAISED|NOT FILTERED|\bREAD\b")
MOST_OUTPUT = 2 * 65536 + 1000
LATE_SECONDS = 1.5
PROBE = "import os; print(sorted(os.listdir('.')), 1 + 1)"
OUTSIDE = ("/usr/x", "/etc/x", "/x")
MEMORY = 6 << 30
_SUBREAPER = 36


def embedded(tier: Any) -> Run:
    from forethought.sandboxes import EmbeddedSandbox, Limits

    limits = Limits(wall_seconds=30, memory_bytes=256 * 2**20, disk_bytes=16 * 2**20, inodes=1024, output_bytes=65536)
    sandbox = EmbeddedSandbox(limits, require=tier, spares=0, python="/usr" if tier == "no-namespaces" else None)

    async def once(code: str, limit: float) -> str:
        session = await sandbox.open()
        try:
            result = await session.run_cell(code, timeout=limit)
            return result.stdout + result.stderr
        finally:
            await session.close()

    loop = asyncio.new_event_loop()
    return lambda code, limit: loop.run_until_complete(once(code, limit))


def bubblewrap(code: str, limit: float) -> str:
    command = [*BWRAP.split(), os.path.realpath(sys.executable), "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace")
    return (done.stdout + done.stderr).decode(errors="replace")


def gem(code: str, limit: float) -> str:
    tool = importlib.import_module("gem.tools.python_code_tool").PythonCodeTool(timeout=limit)
    _, _, observation, _ = tool.execute_action(f"<python>{code}</python>")
    return str(observation)


def skyrl(code: str, limit: float) -> str:
    tools = importlib.import_module("skyrl_gym.tools.python").PythonCodeExecutorToolGroup(timeout=limit)
    return str(tools.python(code))


CONTENDERS: dict[str, Callable[[], Run]] = {
    "embedded": lambda: embedded("namespaces"),
    "embedded, no namespaces": lambda: embedded("no-namespaces"),
    "bubblewrap": lambda: bubblewrap,
    "gem": lambda: gem,
    "skyrl-gym": lambda: skyrl,
}

# In the jail


def make_root(new: Path) -> None:
    """A root that may be written to and is thrown away; what lies below is only looked at."""
    mount("-t", "tmpfs", "tmpfs", str(new))
    for path in sorted(Path("/").iterdir()):
        target = new / path.name
        if path.is_symlink():
            target.symlink_to(os.readlink(path))
        elif path.name == "etc":
            with contextlib.suppress(shutil.Error):  # Some files in it are not for everybody.
                shutil.copytree(path, target, symlinks=True)
        elif path.name in ("tmp", "proc", "mnt", "sys"):
            target.mkdir()
        elif path.name == "usr":
            target.mkdir()
            for below in path.iterdir():
                bind(below, target / below.name)
        elif path.is_dir():
            bind(path, target, read_only=path.name != "dev")
    mount("-t", "proc", "proc", str(new / "proc"))
    mount("-t", "tmpfs", "tmpfs", str(new / "dev/shm"))
    (new / "old").mkdir()
    subprocess.run(["pivot_root", str(new), str(new / "old")], check=True)
    os.chdir("/")
    mount("-l", "/old", command="umount")


def mount(*arguments: str, command: str = "mount") -> None:
    subprocess.run([command, *arguments], check=True)


def bind(path: Path, target: Path, *, read_only: bool = True) -> None:
    target.mkdir()
    mount("--rbind", str(path), str(target))
    if read_only:
        mount("-o", "remount,bind,ro", str(target))


def others() -> set[str]:
    """Processes that are neither the judge, nor its parents, nor what it keeps for itself."""
    found = {name for name in os.listdir("/proc") if name.isdigit()}
    here = {str(os.getpid()), str(os.getppid()), "1"}
    return {name for name in found - here if state(name) not in ("Z", "")}


def state(process: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def judge(contender: str, program: dict[str, Any], prelude: str) -> str:
    """What was wrong; empty when the program was contained."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    os.environ["SANDBOX_TEST_SECRET"] = "CANARY"
    folder, work = Path("/canary"), Path("/tmp/work")
    for path in (folder, work):
        path.mkdir(mode=0o755)
    os.chdir(work)
    (folder / "secret").write_text("CANARY")
    Path("/dev/shm/sbx_canary").write_text("x")
    listener, beside = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    beside.bind(f"{folder}/sock")
    code = f"{prelude}PORT = {listener.getsockname()[1]}\n{program['code']}"
    code = code.replace("{canary_file}", f"{folder}/secret").replace("{canary_folder}", str(folder))
    run = CONTENDERS[contender]()
    clean = run(PROBE, 10)
    if "2" not in clean:
        return f"does not run here: {clean.strip()[:300]}"
    kept = others()
    began = time.monotonic()
    try:
        output = run(code, program["limit_s"])
    except Exception as error:
        return f"the caller got {type(error).__name__}"
    spent = time.monotonic() - began
    found = UNSAFE.search(output)
    if found:
        return f"reached: {output[max(0, found.start() - 20) : found.end() + 40].strip()!r}"
    if spent > program["limit_s"] + LATE_SECONDS:
        return f"took {spent:.1f} s, {program['limit_s']} were allowed"
    if len(output) > MOST_OUTPUT:
        return f"{len(output)} characters of output"
    written = [path for path in (*OUTSIDE, f"{folder}/x") if os.path.exists(path)]
    if written:
        return f"wrote {written}"
    time.sleep(0.7)
    if left := others() - kept:
        return f"{len(left)} processes left"
    after = run(PROBE, 10)
    return "" if after == clean else f"the next run is not clean: {after.strip()[:80]!r}"


def inside(contender: str, number: int, file: str) -> None:
    make_root(Path("/mnt"))
    data = json.loads(Path(file).read_text())
    program = next(item for item in data["programs"] if item["id"] == number)
    # In a child, so that what kills everybody kills the judge as well.
    answer = os.dup(1)
    if os.fork() == 0:
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.write(answer, json.dumps({"wrong": judge(contender, program, data["prelude"])}).encode())
        os._exit(0)
    os.close(answer)
    os.wait()


# Outside


def tried(contender: str, program: dict[str, Any], options: argparse.Namespace) -> str:
    prefix = {"gem": options.gem, "skyrl-gym": options.skyrl}.get(contender)
    python = f"{Path(prefix).expanduser()}/bin/python" if prefix else sys.executable
    # Ours gives root's sessions users of their own, of whom a user namespace of one user has none.
    ours = contender.startswith("embedded") and os.getuid() == 0
    jail = ["unshare", "-mpniu" if ours else "-Urmpniu", "--fork", "--kill-child"]
    command = [*jail, python, os.path.abspath(__file__), options.programs, "--inside", contender, str(program["id"])]
    environment = {**os.environ, "PATH": f"{os.path.dirname(python)}:/usr/sbin:/usr/bin:/sbin:/bin"}
    groups = [Path(f"/sys/fs/cgroup/{kind}/hostile-{os.getpid()}") for kind in ("memory", "pids")]
    settings = [("memory.limit_in_bytes", MEMORY), ("pids.max", 8192)]
    held = []
    for group, (name, value) in zip(groups, settings, strict=True):
        with contextlib.suppress(OSError):
            group.mkdir(exist_ok=True)
            (group / name).write_text(str(value))
            held.append(group)

    def enter() -> None:
        for group in held:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    jailed = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=enter,
        start_new_session=True,
    )
    try:
        output, errors = jailed.communicate(timeout=program["limit_s"] + 60)
    except subprocess.TimeoutExpired:
        os.killpg(jailed.pid, signal.SIGKILL)
        output, errors = jailed.communicate()
    for group in held:
        with contextlib.suppress(OSError):
            group.rmdir()
    try:
        return str(json.loads(output)["wrong"])
    except ValueError:
        if b"Traceback" in errors:
            return f"does not run here: {errors.decode(errors='replace').strip().splitlines()[-1]}"
        return "the host died or hung"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="hostile programs: a JSON file")
    parser.add_argument("--gem", help="prefix of an environment with gem-llm")
    parser.add_argument("--skyrl", help="prefix of an environment with skyrl-gym")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--inside", nargs=2, metavar=("CONTENDER", "ID"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside[0], int(options.inside[1]), options.programs)
        return
    programs = json.loads(Path(options.programs).read_text())["programs"]
    missing = {"gem": not options.gem, "skyrl-gym": not options.skyrl, "bubblewrap": not shutil.which("bwrap")}
    contenders = [name for name in options.only if not missing.get(name)]
    wrong = {name: {item["id"]: tried(name, item, options) for item in programs} for name in contenders}
    print(f"| program | {' | '.join(contenders)} |\n|---|{'---|' * len(contenders)}")
    for item in programs:
        cells = [wrong[name][item["id"]].replace("|", "/") or "contained" for name in contenders]
        print(f"| {item['id']} {item['name'].replace('|', '/')} | {' | '.join(cells)} |")
    counts = [f"{sum(not text for text in wrong[name].values())} of {len(programs)}" for name in contenders]
    print(f"| **contained** | {' | '.join(counts)} |")


if __name__ == "__main__":
    main()
