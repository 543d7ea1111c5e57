"""Files that lie: each gives one clear error, runs no code, takes no memory that the file does not justify, and leaves
nothing behind."""

import collections
import json
import os
import pickle
import random
import resource
import struct
import subprocess
import sys
import warnings
import zipfile

import crafting
from crafting import ConverterTest, Storage, Tensor, legacy_bytes, safetensors_bytes, zip_bytes
from tensors import MAX_PICKLE_OPS, ConvertError

GOOD = {"a.weight": Tensor(range(6), (2, 3)), "a.bias": Tensor([1, 2]), "n": Tensor(Storage([5], "I64"), ())}


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def text(value):
    """The opcode for a short text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def tensor_pickle(reference, offset=b"K\x00", shape=b"K\x02\x85", strides=b"K\x01\x85"):
    """A dictionary of one tensor, with the opcodes of its parts given by the caller."""
    arguments = reference + offset + shape + strides + b"\x89)"
    return b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tRs."


def storage_opcodes(count, kind="FloatStorage", key="0", tag="storage"):
    reference = text(tag) + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + number(count)
    return b"(" + reference + b"tQ"


def number(value):
    return b"\x8a" + bytes([16]) + value.to_bytes(16, "little", signed=True)


class Pickles(ConverterTest):
    def refuse_pickle(self, data, *texts):
        """As data.pkl of an archive that has one storage of two floats, and as the object of a plain file."""
        self.refuse(zip_bytes({"w": Tensor([1, 2])}, data_pkl=data), *texts)
        prefix = legacy_bytes({})[: -len(pickle.dumps({}, 2) + pickle.dumps([], 2))]
        self.refuse(prefix + data + pickle.dumps(["0"], 2) + struct.pack("<q2f", 2, 1, 2), *texts)

    def test_functions_are_never_called(self):
        marker = os.path.join(self.folder, "called")
        for function, arguments, name in (
            (os.system, (f"touch {marker}",), f"{os.system.__module__}.system"),
            (eval, (f"open({marker!r}, 'w')",), "__builtin__.eval"),
            (open, (marker, "w"), "io.open"),
            (getattr, (object, "x"), "__builtin__.getattr"),
            (subprocess.Popen, (["touch", marker],), ".Popen"),
        ):
            data = pickle.dumps({"w": Call(function, *arguments)}, 2)
            self.refuse_pickle(data, "asks for ", f"{name} at byte", "not on the list of allowed names")

    def test_the_byte_of_the_name_is_given(self):
        self.refuse_pickle(b"\x80\x02}" + text("w") + b"cos\nsystem\n.", "os.system at byte")
        self.refuse(
            zip_bytes({}, data_pkl=b"\x80\x02}" + text("w") + b"cos\nsystem\n."), "asks for os.system at byte 9,"
        )

    def test_names_by_other_opcodes(self):
        self.refuse_pickle(b"\x80\x04" + text("os") + text("system") + b"\x93.", "asks for os.system")
        self.refuse_pickle(b"(ios\nsystem\n.", "uses the operation INST")
        self.refuse_pickle(b"(cos\nsystem\no.", "asks for os.system")
        self.refuse_pickle(b"\x82\x01.", "uses the operation EXT1")
        self.refuse_pickle(b"\x97.", "uses the operation NEXT_BUFFER")
        self.refuse_pickle(b"P0\n.", "uses the operation PERSID")
        for name in (
            "torch\nload",
            "torch\nFloatStorage.x",
            "torch._utils\n__builtins__",
            "\n",
            "collections\nnamedtuple",
        ):
            self.refuse_pickle(b"\x80\x02c" + name.encode() + b"\n.", "not on the list of allowed names")

    def test_an_allowed_name_in_the_wrong_place(self):
        for data in (
            b"\x80\x02ctorch\nFloatStorage\n)R.",
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
            b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.",
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n)R.",
            b"\x80\x02ctorch\nSize\n)R.",
            b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.",
            b"\x80\x02ccollections\nOrderedDict\n]K\x01a\x85R.",
            b"\x80\x02K\x01)R.",
            b"\x80\x02ctorch\nFloatStorage\nK\x01R.",
            b"\x80\x02K\x01K\x02b.",
            b"\x80\x02K\x01K\x02a.",
            b"\x80\x02K\x01K\x02K\x03s.",
            b"\x80\x02}]K\x01s.",
            b"\x80\x02}((t\x85K\x01u.",
            b"\x80\x02}(K\x01u.",
            b"\x80\x02(K\x01.",
            b"\x80\x02.",
            b"\x80\x020.",
            b"\x80\x021.",
            b"\x80\x02t.",
            b"\x80\x02h\x05.",
            b"\x80\x02q\x05.",
            b"\x80\x022.",
        ):
            self.refuse_pickle(data, " byte ")

    def test_a_key_twice(self):
        self.refuse_pickle(b"\x80\x02}" + text("w") + b"K\x01s" + text("w") + b"K\x02s.", "sets the key 'w' twice")

    def test_cut_off_anywhere(self):
        data = crafting.pickled(GOOD)[0]
        for end in range(len(data)):
            self.refuse(zip_bytes(GOOD, data_pkl=data[:end]), "archive/data.pkl", " byte ")

    def test_geometry(self):
        good = storage_opcodes(2)
        for data, words in (
            (tensor_pickle(good, offset=b"K\x01"), "ends at element 2 of a storage that has 2"),
            (tensor_pickle(good, shape=b"K\x03\x85"), "ends at element 2 of a storage that has 2"),
            (tensor_pickle(good, strides=b"K\x02\x85"), "ends at element 2"),
            (tensor_pickle(good, strides=number(-1) + b"\x85"), "strides must be whole numbers"),
            (tensor_pickle(good, shape=number(-2) + b"\x85"), "shape must be whole numbers"),
            (tensor_pickle(good, offset=number(-1)), "offset is no number"),
            (tensor_pickle(good, offset=number(1 << 70)), "offset must be whole numbers"),
            (tensor_pickle(good, shape=number(1 << 63) + b"\x85"), "shape must be whole numbers"),
            (
                tensor_pickle(good, shape=number(1 << 61) * 2 + b"\x86", strides=number(1 << 61) * 2 + b"\x86"),
                "element",
            ),
            (tensor_pickle(good, shape=b"K\x02\x85", strides=b")"), "1 dimension but 0 strides"),
            (tensor_pickle(good, shape=b"(" + b"K\x01" * 9 + b"t", strides=b"(" + b"K\x01" * 9 + b"t"), "at most 8"),
            (tensor_pickle(good, shape=text("2")), "shape must be"),
            (tensor_pickle(good, shape=b"G" + struct.pack(">d", 2) + b"\x85"), "shape must be whole numbers"),
            (tensor_pickle(good, shape=b"\x88\x85"), "shape must be whole numbers"),
            (tensor_pickle(good, offset=b"N"), "offset is no number"),
            (tensor_pickle(b"N"), "arguments of the wrong type"),
        ):
            self.refuse_pickle(data, words)

    def test_storages(self):
        for reference, words in (
            (storage_opcodes(3), "torage"),
            (storage_opcodes(1 << 40), "torage"),
            (storage_opcodes(-1), "form that torch.save does not write"),
            (storage_opcodes(1 << 100), "form that torch.save does not write"),
            (storage_opcodes(2, tag="module"), "form that torch.save does not write"),
            (storage_opcodes(2, key="../../etc/passwd"), "torage"),
            (storage_opcodes(2, kind="ComplexFloatStorage"), "torch.ComplexFloatStorage"),
            (b"K\x01Q", "form that torch.save does not write"),
            (b")Q", "form that torch.save does not write"),
        ):
            self.refuse_pickle(tensor_pickle(reference), words)
        one_key_two_types = b"\x80\x02" + storage_opcodes(2) + b"0" + storage_opcodes(2, kind="IntStorage") + b"."
        self.refuse_pickle(one_key_two_types, "is both 2 F32 and 2 I32")

    def test_a_storage_inside_another(self):
        """As PyTorch before 0.4 wrote it: ("storage", type, root, device, count, (key, begin, length))."""

        def file(view):
            reference = storage_opcodes(6)[:-2] + view + b"tQ"
            prefix = legacy_bytes({})[: -len(pickle.dumps({}, 2) + pickle.dumps([], 2))]
            keys = pickle.dumps(["0"], 2)
            return prefix + tensor_pickle(reference) + keys + struct.pack("<q6f", 6, *range(6))

        self.refuse(file(b"(" + text("v") + b"K\x05K\x02t"), "a part of a storage beyond its end")
        self.refuse(file(b"(" + text("v") + b"K\x05" + number(-2) + b"t"), "form that torch.save does not write")
        self.refuse(file(text("v")), "form that torch.save does not write")
        self.assertEqual(self.convert(file(b"N")).tensors["w"], [0, 1])
        self.assertEqual(self.convert(file(b"(" + text("v") + b"K\x03K\x02t")).tensors["w"], [3, 4])

    def test_overlapping_views_cannot_multiply_the_file(self):
        storage = Storage([0] * 1000)
        state = {f"w{i}": Tensor(storage, (900,), offset=i) for i in range(100)}
        self.refuse(zip_bytes(state), "read one storage too often")
        self.refuse(zip_bytes({"w": Tensor(Storage([1]), (1 << 20, 1 << 20), (0, 0))}), "read one storage too often")

    def test_truth_values(self):
        wrong = Storage([True], "BOOL")
        wrong.raw = lambda order="<": b"\x02"
        self.refuse(zip_bytes({"b": Tensor(wrong)}), "tensor b: a truth value is neither 0 nor 1")

    def test_work_is_bounded(self):
        self.refuse_pickle(b"\x80\x02" + b"]0" * MAX_PICKLE_OPS + b"N.", f"more than {MAX_PICKLE_OPS:,} operations")
        pairs = b"]q\x000" + b"h\x00(" + b"K\x01K\x02\x86" * 9000 + b"e0"
        calls = b"ccollections\nOrderedDict\nh\x00\x85R0" * 9000
        self.refuse_pickle(b"\x80\x02" + pairs + calls + b"N.", " byte ")
        deep = b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s."
        self.refuse_pickle(deep, "cannot be a key")
        nested = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
        self.refuse(zip_bytes({}, data_pkl=nested), "no dictionary of tensors")
        itself = b"\x80\x02}q\x00" + text("self") + b"h\x00s."
        self.refuse(zip_bytes({}, data_pkl=itself), "no dictionary of tensors")
        long_number = b"\x8b" + struct.pack("<i", 100_000) + b"\x01" * 100_000
        self.refuse_pickle(b"\x80\x02}" + long_number + b"K\x01s.", "cannot be a key")
        self.refuse_pickle(b"I" + b"9" * 100_000 + b"\n.", "")


class Archives(ConverterTest):
    def test_cut_off_anywhere(self):
        data = zip_bytes(GOOD)
        for end in range(0, len(data), 7):
            self.refuse(data[:end])

    def test_a_flipped_bit_in_the_weights(self):
        data = bytearray(zip_bytes({"w": Tensor([1.5] * 100)}))
        data[data.index(struct.pack("<2f", 1.5, 1.5)) + 50] ^= 4
        self.refuse(bytes(data), "tensor w: is a damaged zip archive: the checksum of archive/data/0 does not match")

    def test_a_bomb(self):
        bomb = zip_bytes(GOOD, zipfile.ZIP_DEFLATED, extra=[("archive/data/9", bytes(200 << 20))])
        self.refuse(bomb, "would unpack to 209,7", "refused")

    def test_a_member_that_claims_more_than_it_has(self):
        state = {"w": Tensor([0.0] * 1000)}
        for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            data = zip_bytes(state, compression)
            central = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
            wrong = data[: central + 24] + struct.pack("<I", 1 << 20) + data[central + 28 :]
            self.refuse(wrong, "storage '0' has 1,048,576 bytes, but 1,000 elements of F32 are 4,000")
        claimed = zip_bytes({"w": Tensor(Storage([0.0] * 1000))})
        central = claimed.rindex(b"PK\x01\x02", 0, claimed.rindex(b"archive/data/0"))
        wrong = claimed[: central + 20] + struct.pack("<I", 3996) + claimed[central + 24 :]
        self.refuse(wrong, "does not have the 4,000 bytes it claims")

    def test_structure(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, about what is the point here
            twice = zip_bytes(GOOD, extra=[("archive/data/0", b"x")])
        self.refuse(twice, "two members of one name")
        self.refuse(zip_bytes(GOOD, extra=[("other/data.pkl", b"x")]), "2 members */data.pkl")
        self.refuse(zip_bytes(GOOD, extra=[("archive/constants.pkl", b"x")]), "TorchScript")
        self.refuse(zip_bytes(GOOD, zipfile.ZIP_BZIP2), "compressed in an unknown way")
        missing = zip_bytes(GOOD).replace(b"archive/data/1", b"archive/data/7")
        self.refuse(missing, "the archive has no storage '1'")
        encrypted = bytearray(zip_bytes(GOOD))
        encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
        self.refuse(bytes(encrypted), "encrypted")


class PlainFiles(ConverterTest):
    def test_cut_off_anywhere(self):
        data = legacy_bytes(GOOD)
        for end in range(len(data)):
            self.refuse(data[:end])

    def test_heads(self):
        data = legacy_bytes(GOOD)
        self.refuse(b"\x80\x02K\x01." + data, "does not start with PyTorch's magic number")
        self.refuse(data.replace(b"M\xe9\x03.", b"M\xea\x03.", 1), "another protocol")
        self.refuse(data.replace(b"little_endian", b"middle_endian", 1), "byte order")

    def test_storages(self):
        self.refuse(legacy_bytes(GOOD, keys=["0", "1"]), "lists 2 storages, but its object uses 3")
        self.refuse(legacy_bytes(GOOD, keys=["0", "1", "1"]), "lists 3 storages")
        self.refuse(legacy_bytes(GOOD, keys=["0", "1", "x"]), "or other ones")
        self.refuse(legacy_bytes(GOOD, keys=[0, 1, 2]), "no list of storages")
        self.refuse(legacy_bytes(GOOD, keys={"0": 1}), "no list of storages")
        storage = Storage([1, 2])
        storage.count = 1 << 40
        self.refuse(legacy_bytes({"w": Tensor(storage)}), "larger than the file")
        storage.count = 3
        self.refuse(legacy_bytes({"w": Tensor(storage)}), "has 2 elements, not 3")
        data = legacy_bytes({"w": Tensor([1, 2])})
        self.refuse(data[:-16] + struct.pack("<q2f", -2, 1, 2), "has -2 elements, not 2")
        self.refuse(data[:-1], "is cut off: storage '0' ends 1 bytes after the file")

    def test_bytes_after_the_end(self):
        self.convert(legacy_bytes(GOOD) + b"more")
        self.assertIn("4 bytes after the last storage are ignored", self.notes)


class Safetensors(ConverterTest):
    def entry(self, **changes):
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
        return json.dumps({"w": {key: value for key, value in entry.items() if value is not None}})

    def test_cut_off_anywhere(self):
        data = safetensors_bytes({"a": ("F32", (2,), bytes(8)), "b": ("I64", (1,), bytes(8))}, {"k": "v"})
        for end in range(len(data)):
            self.refuse(data[:end])

    def test_entries(self):
        for changes, words in (
            ({"dtype": "F8_E4M3"}, "element type F8_E4M3 is not known"),
            ({"dtype": 7}, "element type 7"),
            ({"dtype": None}, "must have dtype, shape and data_offsets"),
            ({"extra": 1}, "must have dtype, shape and data_offsets"),
            ({"shape": [-2]}, "non-negative whole numbers"),
            ({"shape": [2.0]}, "non-negative whole numbers"),
            ({"shape": [True, 2]}, "non-negative whole numbers"),
            ({"shape": "2"}, "non-negative whole numbers"),
            ({"shape": [3]}, "are not F32 of shape [3]"),
            ({"shape": [1 << 61, 4]}, "are not F32 of shape"),
            ({"shape": [1 << 70]}, "non-negative whole numbers"),
            ({"shape": [1] * 9}, "at most 8"),
            ({"data_offsets": [8, 0]}, "are not F32"),
            ({"data_offsets": [0]}, "two numbers"),
            ({"data_offsets": [0, -8]}, "non-negative whole numbers"),
            ({"data_offsets": [0, 4]}, "are not F32"),
            ({"data_offsets": [4, 12]}, "a hole before tensor w"),
        ):
            self.refuse(safetensors_bytes(self.entry(**changes), body=bytes(8)), words)
        self.refuse(safetensors_bytes('{"w": []}'), "must have dtype")

    def test_layout(self):
        def two(first, second, size):
            entries = {
                name: {"dtype": "U8", "shape": [offsets[1] - offsets[0]], "data_offsets": offsets}
                for name, offsets in (("a", first), ("b", second))
            }
            return safetensors_bytes(json.dumps(entries), body=bytes(size))

        self.refuse(two([0, 4], [2, 8], 8), "an overlap before tensor b")
        self.refuse(two([0, 4], [0, 4], 4), "an overlap before tensor b")
        self.refuse(two([0, 4], [5, 8], 8), "a hole before tensor b")
        self.refuse(two([0, 4], [4, 8], 9), "tensors of 8 bytes in all, but 9 bytes after the header")
        self.refuse(two([0, 4], [4, 8], 7), "tensors of 8 bytes in all, but 7 bytes after the header")
        self.assertEqual(set(self.convert(two([4, 8], [0, 4], 8)).tensors), {"a", "b"})

    def test_headers(self):
        self.refuse(struct.pack("<Q", 100_000_001) + b"{" + bytes(100), "format's limit is 100,000,000")
        self.refuse(struct.pack("<Q", 1 << 63) + b"{" + bytes(100), "format's limit")
        self.refuse(struct.pack("<Q", 99_000_000) + b"{" + bytes(100), "is cut off: its header needs 99,000,008")
        for header, words in (
            ('{"w": ', "no JSON"),
            ('{"a": 1} x', "no JSON"),
            ('{"a":' * 100_000, "no JSON"),
            ('{"a": ' + "9" * 100_000 + "}", ""),
            ('{"__metadata__": {"a": 1}}', "no map from text to text"),
            ('{"__metadata__": []}', "no map from text to text"),
            ('{"a": 1, "a": 1}', "one key twice"),
            (self.entry()[:-1] + ", " + self.entry()[1:], "one key twice"),
            ('{"__metadata__": {"k": "1", "k": "2"}}', "one key twice"),
            ('{"w": {"dtype": "F32", "dtype": "F32"}}', "one key twice"),
        ):
            self.refuse(safetensors_bytes(header, body=bytes(8)), words)
        data = safetensors_bytes(self.entry(), body=bytes(8))
        self.refuse(data.replace(b'"w"', b'"\xff"'), "no JSON")


class OtherFiles(ConverterTest):
    def test_what_it_is(self):
        for data, words in (
            (b"", "has 0 bytes"),
            (b"x", "has 1 byte, too few"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs pointer"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
            (b"\x1f\x8b" + bytes(20), "gzip"),
            (b"\x93NUMPY" + bytes(20), "NumPy"),
            (bytes(257) + b"ustar" + bytes(300), "tar file"),
            (bytes(100), "it starts with 00 00 00 00 00 00 00 00"),
        ):
            self.refuse(data, words)

    def test_what_is_no_file(self):
        for path in (self.folder, "/dev/zero"):
            with self.assertRaisesRegex(ConvertError, "is not a regular file"):
                crafting.converter.convert(path)
        os.mkfifo(self.input)
        with self.assertRaisesRegex(ConvertError, "is not a regular file"):
            crafting.converter.convert(self.input)


class Memory(ConverterTest):
    def test_claims_take_no_memory(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))

        huge = Storage([1, 2])
        huge.count = 1 << 45
        many = b"\x80\x02" + b"}" * 3_000_000 + b"."
        for data in (
            zip_bytes(GOOD, zipfile.ZIP_DEFLATED, extra=[("archive/data/9", bytes(200 << 20))]),
            zip_bytes({"w": Tensor(huge)}),
            legacy_bytes({"w": Tensor(huge)}),
            zip_bytes({}, data_pkl=many),
            zip_bytes({"w": Tensor(Storage([1]), (1 << 30,), (0,))}),
            safetensors_bytes('{"w": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4398046511104]}}'),
        ):
            self.write(data)
            command = [sys.executable, os.path.join(crafting.WEIGHTS, "convert.py"), self.input, self.output]
            done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"\A(note: .*\n)?error: .*\n\Z")
            self.assertNotIn("memory", done.stderr)


class Fuzz(ConverterTest):
    """Random damage: the file is read, or refused with a ConvertError; nothing else."""

    ROUNDS = int(os.environ.get("TL_FUZZ_ROUNDS", "600"))

    def mutate(self, rng, data):
        data = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(6)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1 and at < len(data):
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, ord("."), ord("("), ord("R"), ord("t"), ord("0")))
            elif kind == 2:
                del data[at:]
            elif kind == 3:
                del data[at : at + rng.randint(1, 9)]
            elif kind == 4:
                source = rng.randrange(len(data) + 1)
                data[at:at] = data[source : source + rng.randint(1, 60)]
            else:
                data[at : at + 8] = struct.pack("<q", rng.choice((-1, 0, 1 << 31, 1 << 62, -(1 << 63), 1 << 40)))
            if not data:
                break
        return bytes(data)

    def survive(self, data):
        self.write(data)
        try:
            result = crafting.converter.convert(self.input)
            for tensor in result.stored.values():
                self.assertEqual(len(tensor.to_bytes()), tensor.nbytes())
            return 1
        except ConvertError as error:
            self.assertNotIn("\n", str(error))
            return 0

    def test_fuzz(self):
        rng = random.Random(20240601)
        state = collections.OrderedDict(GOOD)
        state["t"] = Tensor(Storage(range(12), "F16"), (3, 4), (1, 3))
        thing = {"state_dict": state, "epoch": 3, "list": [1.5, None, (True, b"x")], "names": {"a"}}
        data_pkl = crafting.pickled(thing)[0]
        entries = {"a": ("F32", (2, 3), bytes(24)), "b.bias": ("BF16", (4,), bytes(8)), "n": ("I64", (), bytes(8))}
        bases = {
            "zip": lambda: self.mutate(rng, zip_bytes(thing)),
            "pickle in a zip": lambda: zip_bytes(thing, data_pkl=self.mutate(rng, data_pkl)),
            "compressed zip": lambda: self.mutate(rng, zip_bytes(thing, zipfile.ZIP_DEFLATED)),
            "legacy": lambda: self.mutate(rng, legacy_bytes(thing)),
            "safetensors": lambda: self.mutate(rng, safetensors_bytes(entries, {"format": "pt", "c": "a"})),
        }
        for base, make in bases.items():
            with self.subTest(base=base):
                read = sum(self.survive(make()) for _ in range(self.ROUNDS))
                self.assertLess(read, self.ROUNDS)


if __name__ == "__main__":
    crafting.main()
