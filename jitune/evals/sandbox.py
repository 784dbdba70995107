"""A place for programs that a model wrote: a process of its own, with limits. In: a program. Out: how it ended.

    run("assert 1 + 1 == 2")                   # "passed"
    run("while True: pass", seconds=1)         # "timed out after 1 s"
    run("open('/etc/passwd', 'w')")            # "PermissionError: the sandbox refuses open of /etc/passwd to write"

The process is Python in isolated mode with a bare environment, in an empty folder that is deleted afterwards. Limits
of the kernel hold its time, memory, file sizes and processes; an audit hook refuses network, other processes,
signals, foreign libraries, and writing or deleting outside of the folder; where the system allows it the network is
cut off, and under root the program runs as a user of its own. The clock ends whatever is left of it.

This holds mistakes and clumsy programs. It is no wall against one that is written to break out: for models that you
do not trust, run the evaluation in a container.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from jitune.evals.task import Execute, Verdict

PASSED = "passed"
MEMORY = 2 << 30  # bytes of address space
FILE = 16 << 20  # bytes of any file
PROCESSES = 32
REPORT = 4096  # bytes of the report that are read

# Runs before the program, in its process; argv: seconds, memory, file, processes, uid, word, folder. The word says
# that the program ran to its end: one that exits on its way has not passed.
DRIVER = r'''
import os, resource, signal, sys
seconds, memory, size, processes, uid = map(int, sys.argv[1:6])
word, folder = sys.argv[6:8]
del sys.argv[1:]
report = os.dup(1)
null = os.open(os.devnull, os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(null, stream)
os.chdir(folder)

def cut_network():
    new_net, new_user = 0x40000000, 0x10000000
    try:
        import ctypes
        libc = ctypes.CDLL(None)
        libc.unshare(new_net) and libc.unshare(new_user | new_net)
    except Exception:
        pass

def become(uid):
    """Another user, who may read what root may read where Python itself lies in a closed folder, and write nowhere."""
    os.seteuid(uid)
    try:
        open(os.__file__).close()
        reads = 0
    except OSError:
        reads = 1 << 2  # CAP_DAC_READ_SEARCH
    os.seteuid(0)
    import ctypes
    libc = ctypes.CDLL(None)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(reads, reads, 0, 0, 0, 0))

def limit(kind, value):
    try:
        resource.setrlimit(kind, (value, value))
    except (ValueError, OSError):
        pass

cut_network()
if uid:
    try:
        become(uid)
    except Exception:
        pass
for name in ("ctypes", "_ctypes", "ctypes._endian"):
    sys.modules.pop(name, None)
signal.alarm(seconds + 5)  # ends it even where nobody waits any more
limit(resource.RLIMIT_CORE, 0)
limit(resource.RLIMIT_CPU, seconds + 1)
limit(resource.RLIMIT_AS, memory)
limit(resource.RLIMIT_FSIZE, size)
limit(resource.RLIMIT_NOFILE, 64)
limit(resource.RLIMIT_NPROC, processes)

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REFUSED = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile",
           "os.kill", "os.chmod", "os.chown", "os.setxattr", "os.symlink", "os.link",
           "signal.pthread_kill", "pty.", "webbrowser.", "urllib.", "http.", "ftplib.", "smtplib.", "fcntl.",
           "resource.", "shutil.chown", "syslog.", "sys.settrace", "sys.setprofile", "gc.get_", "code.__new__")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.utime", "shutil.", "sqlite3.connect")

def inside(path, real=os.path.realpath, root=os.path.realpath(folder)):
    if isinstance(path, int):
        return True
    path = os.fsdecode(path)
    return path == ":memory:" or path == "/dev/null" or real(path).startswith(root + os.sep) or real(path) == root

def refuse(what):
    raise PermissionError("the sandbox refuses " + what)

def watch(event, args):
    if event == "open" and args[0] is not None and args[2] & WRITES and not inside(args[0]):
        refuse(f"open of {args[0]} to write")
    elif event.startswith("ctypes.") and event != "ctypes.dlsym":
        raise ImportError("the sandbox refuses ctypes")
    elif event.startswith(REFUSED):
        refuse(event)
    elif event.startswith(CHANGES):
        for path in args:
            if isinstance(path, (str, bytes, os.PathLike)) and not inside(path):
                refuse(f"{event} of {path}")

def main():
    with open("program.py", encoding="utf-8") as file:
        source = file.read()
    write = os.write
    sys.path.insert(0, folder)
    sys.addaudithook(watch)
    try:
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
        text = word
    except MemoryError:
        text = "out of memory"
    except BaseException as error:
        try:
            text = type(error).__name__ + (": " + str(error) if str(error) else "")
        except BaseException:
            text = "an exception that cannot be shown"
    signal.alarm(seconds + 5)
    write(report, text[:2000].encode("utf-8", "replace"))

main()
os._exit(0)
'''


def run(program: str, *, seconds: float = 10.0, memory: int = MEMORY) -> str:
    """Runs a Python program to its end, or to one of the limits.

    Args:
      program: source text; it passes where its last line is reached.
      seconds: by the clock; the processor's time is limited to about as much.
      memory: bytes of address space.

    Returns:
      "passed", or what went wrong in one line: an exception, a limit, an early exit.
    """
    word = f"passed {random.SystemRandom().getrandbits(128):032x}"
    # Root is not limited in its processes: such a program gets a user of its own, of the ids kept for that.
    uid = 0 if os.getuid() else random.SystemRandom().randrange(61_184, 65_520)
    with tempfile.TemporaryDirectory(prefix="jitune-sandbox-", ignore_cleanup_errors=True) as folder:
        Path(folder, "program.py").write_text(program, encoding="utf-8", errors="replace")
        if uid:
            os.chown(folder, uid, uid)
        numbers = (math.ceil(seconds), memory, FILE, PROCESSES, uid)
        command = [sys.executable, "-I", "-B", "-c", DRIVER, *map(str, numbers), word, folder]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8"},
        )
        try:
            report, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"timed out after {seconds:g} s"
        finally:
            _end(process)
    return _tell(report[:REPORT].decode("utf-8", "replace"), word, process.returncode)


def _end(process: subprocess.Popen) -> None:
    """Ends the process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.kill()
    process.wait()
    process.stdout.close()


def _tell(report: str, word: str, code: int) -> str:
    if report == word:
        return PASSED
    if code == -signal.SIGXCPU or code == -signal.SIGKILL:
        return "used up its processor time or memory"
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return " ".join(report.split())[:300] or f"exited with status {code} before its end"


def verdict(execute: Execute) -> Verdict:
    """What an `Execute` asks for; a sandbox that cannot start is a failure, and no fault of the program."""
    try:
        return Verdict(run(execute.program, seconds=execute.seconds))
    except OSError as error:
        return Verdict(None, f"execution: the sandbox did not start: {error}")
