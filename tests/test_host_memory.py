"""Freed memory stays with the process, so that the next step does not fault its pages in again."""

import math
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from jitune.host_memory import available
from tests.conftest import ROOT

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROGRAM = """
import resource, sys
from jitune.host_memory import keep_pages

if sys.argv[1] == "keep":
    assert keep_pages()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    before = faults()
    block = b"x" * (32 << 20)
    del block
print(faults() - before)
"""


@pytest.mark.core
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told to keep its pages")
def test_a_block_is_faulted_in_once():
    def last(mode):
        words = [sys.executable, "-c", PROGRAM, mode]
        return int(subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout)

    pages = (32 << 20) // 4096
    assert last("keep") < pages / 10
    if "[always]" not in HUGE_PAGES.read_text():  # where pages are huge, few of them hold the block
        assert last("default") > pages / 2


@pytest.mark.core
@pytest.mark.parametrize("kind, line, folder, names", [
    ("v2", "0::/jobs/one", "jobs", ("memory.max", "memory.current", "inactive_file")),
    ("its own namespace", "0::/", "", ("memory.max", "memory.current", "inactive_file")),
    ("v1", "4:cpu:/x\n5:memory,hugetlb:/jobs", "memory/jobs",
     ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
])  # fmt: skip
def test_a_container_has_what_its_limit_leaves(tmp_path, kind, line, folder, names):
    assert available(tmp_path) == math.inf  # nothing tells of it
    for name in ("proc/self", f"sys/fs/cgroup/{folder}"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 90 kB\nMemAvailable:  64 kB\n")
    assert available(tmp_path) == 64 * 1024
    (tmp_path / "proc/self/cgroup").write_text(line + "\n")
    group = tmp_path / "sys/fs/cgroup" / folder
    (group / names[0]).write_text("5000\n")
    (group / names[1]).write_text("3000\n")
    assert available(tmp_path) == 2000
    (group / "memory.stat").write_text(f"anon 7\n{names[2]} 500\n")
    assert available(tmp_path) == 2500
    (group / names[0]).write_text("max\n" if kind != "v1" else "9223372036854771712\n")
    assert available(tmp_path) == 64 * 1024
