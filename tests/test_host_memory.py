"""Freed memory stays with the process, so that the next step does not fault its pages in again."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

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
