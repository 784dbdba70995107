"""The table of devices: found by name and by device, and never by a name that only looks like one of them."""

from types import SimpleNamespace

import pytest

from jitune import hardware
from jitune.types import UserError

pytestmark = pytest.mark.core


@pytest.mark.parametrize("kind, name, bfloat16, gib", [
    ("NVIDIA H100 80GB HBM3", "h100-sxm", 989.5e12, 80),
    ("NVIDIA H200", "h200", 989.5e12, 141),
    ("NVIDIA A100-SXM4-40GB", "a100-40gb", 312e12, 40),
    ("TPU v5 lite", "tpu-v5e", 197e12, 16),
    ("TPU v5p", "tpu-v5p", 459e12, 95),
    ("TPU v6 lite", "tpu-v6e", 918e12, 32),
])
def test_a_device_is_found_by_its_kind(kind, name, bfloat16, gib):
    entry = hardware.of_device(SimpleNamespace(device_kind=kind))
    assert entry == hardware.find(name) and entry.name == name
    assert entry.peak_flops["bfloat16"] == bfloat16 and entry.memory_bytes == gib * 2**30


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GeForce RTX 4090 Laptop GPU",
                                  "TPU v99", "Radeon"])
def test_an_unknown_device_is_none(kind):
    assert hardware.of_device(SimpleNamespace(device_kind=kind)) is None


def test_entries_are_whole():
    assert set(hardware.KINDS.values()) == set(hardware.HARDWARE)
    for entry in hardware.HARDWARE.values():
        assert entry.peak_flops["float32"] > 1e12 and entry.bandwidth_bytes > 1e11 and entry.link_bytes > 1e10
        assert entry.peak_flops["float32"] < max(entry.peak_flops.values())
    assert "bfloat16" not in hardware.find("t4").peak_flops


def test_short_names_are_entries():
    assert all(hardware.find(short) is hardware.HARDWARE[name] for short, name in hardware.SHORT.items())
    assert hardware.find("H200").name == "h200"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="hardware 'h1000' is not known; known are a100-40gb, .*tpu-v6e"):
        hardware.find("h1000")


def test_the_measured_peak_is_in_flops_a_second():
    assert 1e9 < hardware.measure_peak("float32", size=512, seconds=0.05) < 1e14
