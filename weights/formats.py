"""Reads the three formats: PyTorch's archive (since 1.6), its older plain file, and safetensors.

Every size that a file claims is compared with the bytes that it has before memory is taken.
"""

import collections
import json
import math
import mmap
import os
import stat
import struct
import zipfile
import zlib

from pickles import PickleReader
from tensors import FREE_INFLATION_BYTES, ITEM_SIZE, MAX_ALIAS_STEPS, MAX_HEADER_BYTES, MAX_INFLATION, MAX_PICKLE_BYTES
from tensors import MAX_RANK, RESERVED_METADATA, ConvertError, Storage, Tensor, plural, show, some, swapped

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_file(path, note):
    """Returns (tensors by name, metadata) of a file in any of the formats."""
    info = os.stat(path)  # before opening, because opening a pipe waits
    if not stat.S_ISREG(info.st_mode):
        raise ConvertError("is not a regular file")
    if info.st_size < 10:
        raise ConvertError(f"has {plural(info.st_size, 'byte')}, too few for a file of weights")
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start = bytes(data[:16])
        if start.startswith(b"PK\x03\x04"):
            return choose_state_dict(read_zip(file, data), note), {}
        if start[8:9] == b"{":
            return read_safetensors(data)
        if start[0] == 0x80:
            return choose_state_dict(read_legacy(data, note), note), {}
    known = {
        b"version https://": "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`",
        b"<": "a web page; the download went wrong",
        b"\x89HDF": "an HDF5 file (Keras)",
        b"\x1f\x8b": "a gzip file; unpack it first",
        b"GGUF": "a GGUF file",
        b"\x93NUMPY": "a NumPy array",
    }
    for magic, meaning in known.items():
        if start.lstrip().startswith(magic):
            raise ConvertError(f"is {meaning}")
    if bytes(data[257:262]) == b"ustar":
        raise ConvertError("is a tar file (PyTorch 0.1, or an archive); load and save it with a newer PyTorch")
    raise ConvertError(f"is neither a PyTorch nor a safetensors file; it starts with {start[:8].hex(' ')}")


def read_zip(file, data):
    """The object in a file of PyTorch 1.6 or newer: an archive of NAME/data.pkl and NAME/data/KEY for each storage."""
    try:
        members = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError, OverflowError) as error:
        raise ConvertError(f"is a damaged or cut-off zip archive ({show(error)})") from None
    by_name = {member.filename: member for member in members}
    if len(by_name) != len(members):
        raise ConvertError("is a zip archive with two members of one name")
    if sum(member.compress_size for member in members) > len(data):
        raise ConvertError("is a zip archive whose members overlap")
    inflated = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
    if inflated > max(FREE_INFLATION_BYTES, MAX_INFLATION * len(data)):
        raise ConvertError(f"is a zip archive that would unpack to {inflated:,} bytes from {len(data):,}: refused")
    pickles = [name for name in by_name if name.split("/")[-1] == "data.pkl" and name.count("/") <= 1]
    if len(pickles) != 1:
        raise ConvertError(f"is a zip archive with {len(pickles)} members */data.pkl; torch.save writes one")
    folder = pickles[0][: -len("data.pkl")]
    if folder + "constants.pkl" in by_name:
        raise ConvertError("is a TorchScript archive; save the module's state_dict() with torch.save")

    def read(name):
        return unzip(data, by_name[name])

    swap = folder + "byteorder" in by_name and bytes(read(folder + "byteorder")) == b"big"
    storages = {}

    def find_storage(key, dtype, count):
        member = by_name.get(f"{folder}data/{key}")
        if member is None:
            raise ConvertError(f"the archive has no storage {show(key)!r}")
        size = ITEM_SIZE[dtype]
        if member.file_size != count * size:
            raise ConvertError(
                f"storage {show(key)!r} has {member.file_size:,} bytes, "
                f"but {count:,} elements of {dtype} are {count * size:,}"
            )
        if key not in storages:

            def load():
                raw = unzip(data, member)
                return swapped(raw, size) if swap else raw

            storages[key] = Storage(dtype, count, load)
        return same_type(storages[key], key, dtype, count)

    size = by_name[pickles[0]].file_size
    if size > MAX_PICKLE_BYTES:
        raise ConvertError(f"has a pickle of {size:,} bytes; the limit is {MAX_PICKLE_BYTES:,}")
    root, _ = PickleReader(read(pickles[0]), what=show(pickles[0]), find_storage=find_storage).load()
    return root


def same_type(storage, key, dtype, count):
    if (storage.dtype, storage.count) != (dtype, count):
        raise ConvertError(f"storage {show(key)!r} is both {storage.count} {storage.dtype} and {count} {dtype}")
    return storage


def unzip(data, member):
    """The bytes of a member, checked against its size and its checksum."""
    name = show(member.filename)
    if member.flag_bits & 1:
        raise ConvertError(f"is a zip archive whose member {name} is encrypted")
    header = bytes(data[member.header_offset : member.header_offset + 30]) if member.header_offset >= 0 else b""
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise ConvertError(f"is a damaged zip archive: no header for {name} at byte {member.header_offset:,}")
    begin = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    raw = data[begin : begin + member.compress_size]
    if len(raw) != member.compress_size:
        raise ConvertError(f"is a damaged zip archive: {name} reaches beyond the end of the file")
    if member.compress_type == zipfile.ZIP_DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            raw = inflater.decompress(raw, member.file_size + 1)
        except zlib.error as error:
            raise ConvertError(f"is a damaged zip archive: {name}: {error}") from None
    elif member.compress_type != zipfile.ZIP_STORED:
        raise ConvertError(f"is a zip archive whose member {name} is compressed in an unknown way")
    if len(raw) != member.file_size:
        raise ConvertError(f"is a damaged zip archive: {name} does not have the {member.file_size:,} bytes it claims")
    if zlib.crc32(raw) != member.CRC:
        raise ConvertError(f"is a damaged zip archive: the checksum of {name} does not match")
    return raw


def read_legacy(data, note):
    """The object in a file of PyTorch before 1.6: five pickles (the object is the fourth), then the storages."""
    magic, end = PickleReader(data, 0, "the first pickle", limit=4096).load()
    if magic != LEGACY_MAGIC:
        raise ConvertError("is a pickle, but not one of torch.save (it does not start with PyTorch's magic number)")
    protocol, end = PickleReader(data, end, "the second pickle", limit=4096).load()
    if protocol != LEGACY_PROTOCOL:
        raise ConvertError("is a PyTorch file of another protocol than 1001")
    system, end = PickleReader(data, end, "the third pickle", limit=4096).load()
    if not isinstance(system, dict) or type(system.get("little_endian")) is not bool:
        raise ConvertError("does not say its byte order")
    swap = not system["little_endian"]

    places = {}  # key -> byte at which the storage's elements begin, known after the last pickle
    storages = {}

    def find_storage(key, dtype, count):
        size = ITEM_SIZE[dtype]
        if count * size > len(data):
            raise ConvertError(f"storage {show(key)!r} of {count:,} elements is larger than the file")
        if key not in storages:

            def load():
                raw = data[places[key] : places[key] + count * size]
                return swapped(raw, size) if swap else raw

            storages[key] = Storage(dtype, count, load)
        return same_type(storages[key], key, dtype, count)

    root, end = PickleReader(data, end, "the pickle of the object", find_storage).load()
    keys, end = PickleReader(data, end, "the pickle of the keys").load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConvertError("has no list of storages after its object")
    if len(set(keys)) != len(keys) or set(keys) != set(storages):
        raise ConvertError(f"lists {len(keys)} storages, but its object uses {len(storages)}, or other ones")
    for key in keys:
        storage = storages[key]
        head = bytes(data[end : end + 8])
        if len(head) < 8:
            raise ConvertError(f"is cut off: storage {show(key)!r} is missing at byte {end:,}")
        count = int.from_bytes(head, "big" if swap else "little", signed=True)
        if count != storage.count:
            raise ConvertError(f"storage {show(key)!r} at byte {end:,} has {count:,} elements, not {storage.count:,}")
        places[key] = end + 8
        end += 8 + count * ITEM_SIZE[storage.dtype]
        if end > len(data):
            raise ConvertError(f"is cut off: storage {show(key)!r} ends {end - len(data):,} bytes after the file")
    if end < len(data):
        note(f"{len(data) - end:,} bytes after the last storage are ignored")
    return root


def read_safetensors(data):
    """The tensors and the metadata of a safetensors file, by all the format's rules."""
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise ConvertError(f"has a safetensors header of {size:,} bytes; the format's limit is {MAX_HEADER_BYTES:,}")
    if 8 + size > len(data):
        raise ConvertError(f"is cut off: its header needs {8 + size:,} bytes, the file has {len(data):,}")

    def unique(pairs):
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise ConvertError("has a safetensors header with one key twice")
        return entries

    try:
        header = json.loads(bytes(data[8 : 8 + size]).decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"has a safetensors header that is no JSON ({show(error)})") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ConvertError("has a __metadata__ that is no map from text to text")

    body = data[8 + size :]
    tensors, ranges = {}, []
    for name, entry in header.items():
        where = f"has a wrong entry for tensor {show(name)}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ConvertError(f"{where}: it must have dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
            raise ConvertError(f"{where}: element type {show(dtype)} is not known here")
        for numbers in (shape, offsets):
            if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
                raise ConvertError(f"{where}: shape and data_offsets must be lists of non-negative whole numbers")
        if len(offsets) != 2 or len(shape) > MAX_RANK:
            raise ConvertError(f"{where}: data_offsets must have two numbers, shape at most {MAX_RANK}")
        begin, end = offsets
        count = math.prod(shape)
        if end - begin != count * ITEM_SIZE[dtype]:
            raise ConvertError(f"{where}: bytes {begin:,} to {end:,} are not {dtype} of shape {shape}")
        ranges.append((begin, end, name))
        storage = Storage(dtype, count, lambda begin=begin, end=end: body[begin:end])
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        tensors[name] = Tensor(storage, 0, shape, strides)
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            raise ConvertError(f"has {'a hole' if begin > position else 'an overlap'} before tensor {show(name)}")
        position = end
    if position != len(body):
        raise ConvertError(f"has tensors of {position:,} bytes in all, but {len(body):,} bytes after the header")
    add_aliases(tensors, metadata)
    return tensors, metadata


def add_aliases(tensors, metadata):
    """Tied weights are stored once; the metadata says {"other name": "stored name"}, also in several steps."""
    for name in [key for key in metadata if key not in RESERVED_METADATA]:
        target, steps = name, 0
        while target in metadata and target not in tensors and steps < MAX_ALIAS_STEPS:
            target = metadata[target]
            steps += 1
        if target in tensors:
            tensors[name] = tensors[target]
        elif metadata.get("format") == "tl":
            raise ConvertError(f"says that {show(name)} is {show(metadata[name])}, which leads to no tensor")


# --------------------------------------------------------------------------------------------------------- the choice

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "module")


def choose_state_dict(root, note):
    """The dictionary of tensors in what was saved: the top level if it holds the most, else the first of CONTAINERS in
    it, else the largest one anywhere."""
    found = []  # (path, tensors by name, other keys)
    queue, seen = collections.deque([((), root)] if isinstance(root, dict) else []), set()
    while queue:
        path, value = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        tensors = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}
        if tensors:
            found.append((path, tensors, [key for key in value if key not in tensors]))
        if len(path) < 3:
            queue.extend((path + (k,), v) for k, v in value.items() if isinstance(k, str) and isinstance(v, dict))
    if not found:
        raise ConvertError("holds no dictionary of tensors")

    def rank(entry):
        path, tensors, _ = entry
        named = len(path) == 1 and path[0] in CONTAINERS
        return (-CONTAINERS.index(path[0]) if named else -len(CONTAINERS), len(tensors))

    largest = max(found, key=lambda entry: len(entry[1]))
    path, tensors, others = largest if not largest[0] else max(found, key=rank)
    if path:
        note(f"the tensors are those of {show('.'.join(path))!r} ({len(tensors)})")
    elif others:
        note(f"entries that are no tensors are left out: {some(others)}")
    ignored = [f"{'.'.join(other)} ({len(held)})" for other, held, _ in found if other != path and len(held) > 3]
    if ignored:
        note(f"other dictionaries of tensors are left out: {some(ignored)}")
    return tensors
