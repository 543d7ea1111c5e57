"""What all parts of the converter share: errors, limits, element types, and tensors as views of a file's bytes."""

import array
import itertools
import math
import struct
import sys

# -------------------------------------------------------------------------------------------------- errors and limits

MAX_PICKLE_BYTES = 64 << 20  # a network of 1,000 tensors needs about 100 KB
MAX_PICKLE_OPS = 2_000_000  # bounds the memory that a pickle can ask for, too: each operation makes one small object
MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit
MAX_RANK = 8
MAX_NAME = 512
MAX_ALIAS_STEPS = 8
MAX_OVERLAP = 8  # how often the tensors may read each element of a storage
MAX_INFLATION = 32  # a compressed archive of weights shrinks little; beyond this, it is a bomb
FREE_INFLATION_BYTES = 64 << 20
MAX_CLASSES, MAX_CLASSES_BYTES = 1_000_000, 64 << 20
MAX_EXTRA = 8  # tensors beside an architecture's own (an auxiliary head, say) that recognition puts up with

# The keys of `__metadata__` that mean something to tl; any other is the second name of a tied tensor.
RESERVED_METADATA = ("format", "arch", "classes", "preprocess", "constants", "source")


class ConvertError(Exception):
    """The input cannot be converted; the text says what was expected and what was found."""

    exit_code = 1
    names_file = False  # whether the text already says which file is meant


class UsageError(ConvertError):
    """The command line cannot be meant."""

    exit_code = 2
    names_file = True


class WriteError(ConvertError):
    """The output cannot be written."""

    names_file = True


def show(text):
    """A name from a file, made fit for one line of a terminal."""
    text = str(text)
    if len(text) > 160:
        text = text[:150] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]


def plural(count, noun):
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def some(names, limit=6):
    """The first few names, and how many there are in all."""
    names = list(names)
    text = ", ".join(show(name) for name in names[:limit])
    return text + (f", … ({len(names)} in all)" if len(names) > limit else "")


# ------------------------------------------------------------------------------------------------------ element types

ITEM_SIZE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
STORED_AS = {"F64": "F32", "F16": "F32", "BF16": "F32", "I16": "I32"}  # parameters are f32 in tl; the rest stays


def little_endian(values):
    """The bytes of an array.array in the order of the file format."""
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def f32_from_bf16(raw):
    out = bytearray(2 * len(raw))  # bf16 is the upper half of an f32
    out[2::4] = raw[0::2]
    out[3::4] = raw[1::2]
    return out


def f32_from_f16(raw):
    out = bytearray()
    for begin in range(0, len(raw), 1 << 17):
        part = raw[begin : begin + (1 << 17)]
        out += little_endian(array.array("f", struct.unpack(f"<{len(part) // 2}e", part)))
    return out


def f32_from_f64(raw):
    out = bytearray()
    for begin in range(0, len(raw), 1 << 19):
        part = raw[begin : begin + (1 << 19)]
        wide = struct.unpack(f"<{len(part) // 8}d", part)
        narrow = array.array("f", wide)
        if sum(map(math.isinf, narrow)) != sum(map(math.isinf, wide)):
            raise ConvertError("a 64-bit value is too large for 32 bits")
        out += little_endian(narrow)
    return out


def i32_from_i16(raw):
    return little_endian(array.array("i", struct.unpack(f"<{len(raw) // 2}h", raw)))


CONVERSION = {"F64": f32_from_f64, "F16": f32_from_f16, "BF16": f32_from_bf16, "I16": i32_from_i16}


# ------------------------------------------------------------------------------------------------------------ tensors


class Storage:
    """A run of elements in the input; several tensors may look into one."""

    def __init__(self, dtype, count, load):
        self.dtype = dtype
        self.count = count
        self._load = load  # () -> bytes-like, in little-endian order, of exactly count elements
        self._data = None

    def data(self):
        if self._data is None:
            self._data = memoryview(self._load())
        return self._data


class Tensor:
    """A view of a storage: element (i, j, …) is the one at offset + i * strides[0] + j * strides[1] + …"""

    def __init__(self, storage, offset, shape, strides):
        for what, numbers in (("offset", (offset,)), ("shape", shape), ("strides", strides)):
            if not isinstance(numbers, (tuple, list)) or len(numbers) > MAX_RANK:
                raise ConvertError(f"a tensor's {what} must be at most {MAX_RANK} numbers")
            if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
                raise ConvertError(f"a tensor's {what} must be whole numbers from 0 to 2^62")
        if len(shape) != len(strides):
            raise ConvertError(f"a tensor has {plural(len(shape), 'dimension')} but {plural(len(strides), 'stride')}")
        self.storage = storage
        self.offset = offset
        self.shape = tuple(shape)
        self.strides = tuple(strides)
        self.count = math.prod(shape)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) if self.count else offset - 1
        if last >= storage.count:
            raise ConvertError(
                f"a tensor of shape {list(shape)} ends at element {last:,} of a storage that has {storage.count:,}"
            )

    @property
    def dtype(self):
        return STORED_AS.get(self.storage.dtype, self.storage.dtype)

    @property
    def identity(self):
        """Equal for two tensors that are the same numbers in memory: tied weights."""
        return (id(self.storage), self.offset, self.shape, self.strides) if self.count else id(self)

    def nbytes(self):
        return self.count * ITEM_SIZE[self.dtype]

    def to_bytes(self):
        """The elements as the output holds them: contiguous, little-endian, of the stored type."""
        raw = self._gather()
        if self.storage.dtype == "BOOL" and raw and max(raw) > 1:
            raise ConvertError("a truth value is neither 0 nor 1")
        convert_type = CONVERSION.get(self.storage.dtype)
        return convert_type(raw) if convert_type else raw

    def _gather(self):
        size = ITEM_SIZE[self.storage.dtype]
        data = self.storage.data()
        dims = []  # (length, stride in the input, stride in the output) of the dimensions that matter
        run = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides)):
            if length > 1:
                dims.append((length, stride, run))
            run *= length
        if self.count == 0 or all(stride == target for _, stride, target in dims):
            return data[self.offset * size : (self.offset + self.count) * size]

        # One sliced copy along the longest dimension, for each position of the others: transposed and channels-last
        # weights copy at C speed.
        code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        source = data.cast("B").cast(code)
        out = bytearray(self.count * size)
        target = memoryview(out).cast(code)
        dims.sort(key=lambda dim: (dim[1] > 0, dim[0]))  # a stride of 0 (an expanded tensor) cannot be sliced
        length, stride, step = dims.pop()
        for position in itertools.product(*(range(n) for n, _, _ in dims)):
            begin = self.offset + sum(i * dim[1] for i, dim in zip(position, dims))
            to = sum(i * dim[2] for i, dim in zip(position, dims))
            if stride == 0:
                for i in range(length):
                    target[to + i * step] = source[begin]
            else:
                end = begin + (length - 1) * stride + 1
                target[to : to + (length - 1) * step + 1 : step] = source[begin:end:stride]
        return out


def swapped(raw, size):
    """The elements of a big-endian file in little-endian order."""
    out = bytearray(len(raw))
    for byte in range(size):
        out[byte::size] = raw[size - 1 - byte :: size]
    return out
