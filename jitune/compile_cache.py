"""jax's persistent cache of compiled programs, on by default for the commands, and whether a program came from it.

    say = use_cache()                     # before the first computation; a line to print where it cannot be used
    with reads() as hits: compile()       # hits: names of the events, empty where everything was compiled

The folder is $JITUNE_CACHE, else $XDG_CACHE_HOME/jitune or ~/.cache/jitune; JITUNE_CACHE=off leaves the cache off.
Where JAX_COMPILATION_CACHE_DIR is set, nothing is changed. It grows with every new shape or version, and may be
deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import jax

HIT = "/jax/compilation_cache/cache_hits"


def use_cache() -> str:
    """Turns the cache on; returns a warning where its folder cannot be written, else "".

    Several processes get no cache of their own accord: where it lies on a disk of its own for each of them, one would
    read what the others compile, and on GPUs compiling is a joint work of all processes.
    """
    wanted = os.environ.get("JITUNE_CACHE", "")
    if wanted == "off" or jax.config.jax_compilation_cache_dir or jax.process_count() > 1:
        return ""
    try:
        folder = _root(wanted) / "xla" / _machine()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        return f"compiled programs are not kept for the next run: {error}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return ""


def _root(wanted: str) -> Path:
    if wanted:
        return Path(wanted).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jitune"


def _machine() -> str:
    """A folder for each kind of CPU that programs are compiled for: a home may be shared by machines that differ."""
    if jax.default_backend() != "cpu":
        return jax.default_backend()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "cpu"
    kind = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return f"cpu-{hashlib.sha256(''.join(kind).encode()).hexdigest()[:8]}"


def cache_is_on() -> bool:
    """Whether compiled programs are kept."""
    return bool(jax.config.jax_compilation_cache_dir and jax.config.jax_enable_compilation_cache)


@contextlib.contextmanager
def reads():
    """Yields a list that grows by one for each program that is read from the cache meanwhile."""
    hits: list[str] = []

    def note(event: str, **_) -> None:
        if event == HIT:
            hits.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(note)
