"""The files of a checkpoint directory: where each tensor lies, reading slices, writing shards.

Only safetensors are read; pickles never are. Every file is opened for one tensor at a time, so that the
mapped pages of a large file do not add up in this process.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jitune.types import UserError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SMALL = 1 << 20  # bytes, from which on an array is worth a mapping of its own
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


class Tensor(NamedTuple):
    """A tensor on disk: its file, name, shape as stored, safetensors dtype, and where its bytes start in the file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    start: int


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises UserError for a missing, broken or differently typed file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: a JSON object is needed, it holds a {type(value).__name__}")
    return value


def open_file(path: Path):
    """Opens a safetensors file for numpy. Raises UserError where it is missing, truncated or corrupt."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(str(path), framework="numpy")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or corrupt safetensors file ({error})") from None


def find_tensors(directory: Path) -> dict[str, Tensor]:
    """Returns {name: Tensor} of a checkpoint directory, one file or several with an index.

    Raises UserError where there are no safetensors, a file is broken, the index names a file outside the
    directory, or index and files disagree.
    """
    index = directory / INDEX
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError(f"{index}: has no weight_map")
        for name, file in weight_map.items():
            if not isinstance(file, str) or Path(file).name != file or file in ("", ".", ".."):
                raise UserError(f"{index}: {name} points outside its directory: {file!r}")
        files = sorted(set(weight_map.values()))
    elif (directory / SINGLE).exists():
        weight_map, files = None, [SINGLE]
    else:
        raise UserError(_no_weights(directory))
    found: dict[str, Tensor] = {}
    for file in files:
        open_file(directory / file)  # which checks it
        for tensor in _read_header(directory / file):
            if weight_map is None or weight_map.get(tensor.name) == file:
                found[tensor.name] = tensor
    if weight_map is not None and (lost := sorted(weight_map.keys() - found.keys())):
        raise UserError(f"{index}: {lost[0]} is not in {weight_map[lost[0]]} ({len(lost)} such tensors)")
    return found


def _read_header(path: Path) -> list[Tensor]:
    """The tensors of a safetensors file: eight bytes of length, JSON, data (the format's own README)."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return [Tensor(path, name, tuple(one["shape"]), one["dtype"], 8 + length + one["data_offsets"][0])
            for name, one in header.items()]  # fmt: skip


def _no_weights(directory: Path) -> str:
    if not directory.is_dir():
        return f"{directory}: no such checkpoint directory"
    pickles = sorted(p.name for p in directory.glob("*.bin")) + sorted(p.name for p in directory.glob("*.pt*"))
    if pickles:
        return (f"{directory}: has only pickled weights ({pickles[0]}), and pickles are never loaded; "
                "save the model as safetensors")
    return f"{directory}: has neither {SINGLE} nor {INDEX}"


def read_slice(tensor: Tensor, index: tuple[slice, ...]) -> np.ndarray:
    """Reads a part of a tensor into memory of its own."""
    with open_file(tensor.file) as handle:
        return np.array(handle.get_slice(tensor.name)[index] if index else handle.get_tensor(tensor.name))


def view(tensor: Tensor) -> np.ndarray:
    """A tensor of floats over its mapped file, read-only: pages come in as they are touched, and go with the array."""
    return np.memmap(tensor.file, _dtypes()[tensor.dtype], "r", tensor.start, tensor.shape)


def scratch(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array to fill, whose pages the system has back when it is gone; malloc would keep them for its thread."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)


def write_shards(
    directory: Path, layout: dict[str, tuple[tuple[int, ...], Any]], tensors: Iterable[tuple[str, np.ndarray]],
    max_bytes: int,
) -> None:  # fmt: skip
    """Writes tensors as model.safetensors, or as shards with an index above `max_bytes`, one tensor after the other.

    layout: {name: (shape, dtype)} of all of them, in the order in which `tensors` gives them.
    """
    shards, room, total, parameters = [{}], max_bytes, 0, 0
    for name, (shape, dtype) in layout.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if shards[-1] and size > room:
            shards.append({})
            room = max_bytes
        shards[-1][name] = (shape, np.dtype(dtype))
        room, total, parameters = room - size, total + size, parameters + math.prod(shape)
    tensors = iter(tensors)
    if len(shards) == 1:
        _write_shard(directory / SINGLE, shards[0], tensors)
        return
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(directory / file, shard, tensors)
        weight_map |= dict.fromkeys(shard, file)
    meta = {"total_parameters": parameters, "total_size": total}
    write_json(directory / INDEX, {"metadata": meta, "weight_map": weight_map})


def _write_shard(path: Path, shard: dict, tensors) -> None:
    """One safetensors file: eight bytes of length, JSON filled up with spaces to a multiple of eight, data."""
    kinds, header, end = {dtype: name for name, dtype in _dtypes().items()}, {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, dtype) in shard.items():
        first, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": kinds[dtype], "shape": list(shape), "data_offsets": [first, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for wanted in shard:
            name, array = next(tensors)
            if name != wanted or (array.shape, array.dtype) != shard[name]:
                raise AssertionError(f"{name} {array.shape} {array.dtype} comes where {wanted} {shard[wanted]} belongs")
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _dtypes() -> dict[str, np.dtype]:
    import ml_dtypes

    kinds = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    return {name: np.dtype(kind) for name, kind in kinds.items()}


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def digest(directory: Path) -> str:
    """Tells two checkpoints apart: sha256 over config.json and samples of every weight file.

    Of each file its size, its first and last 64 KiB and 64 blocks of 4 KiB between them are read, so
    that a model of any size takes milliseconds; training changes every tensor, and so the samples.
    """
    state = hashlib.sha256((directory / "config.json").read_bytes())
    for path in sorted(directory.glob("model*.safetensors")):
        size = path.stat().st_size
        state.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for i in range(66):
                file.seek(max(0, (size - (1 << 16)) * i // 65))
                state.update(file.read(1 << 16 if i in (0, 65) else 1 << 12))
    return state.hexdigest()
