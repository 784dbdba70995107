"""The benchmark for GPUs, as far as it runs without one: backends beside the plain form, or refused, a line each."""

import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    yield gpu
    for name in ("gpu", "common", "step"):
        sys.modules.pop(name, None)


def test_backends_are_compared_timed_or_refused(gpu, capsys):
    for kind, case in (("chunked", "packed, soft cap"), ("cudnn", "packed")):
        gpu.compare(kind, case, 1100, repeats=1)
    chunked, cudnn = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    # bfloat16 has 8 bits: neither form is nearer to exact numbers than a few parts in a hundred.
    assert 0 < chunked["worst_difference"] < 0.05 and 0 < chunked["plain_difference"] < 0.05
    assert chunked["ms"] > 0 and chunked["temporary_mib"] > 0 and chunked["instead"] == []
    assert "needs an NVIDIA GPU" in cudnn["refused"]
