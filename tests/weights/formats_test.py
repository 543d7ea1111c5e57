"""Whole files of the three formats, as they should be: every value comes out as it went in."""

import argparse
import collections
import math
import pickletools
import struct
import zipfile

import crafting
from crafting import ConverterTest, Storage, Tensor, legacy_bytes, pickled, safetensors_bytes, zip_bytes

SAVERS = {
    "zip": zip_bytes,
    "zip, compressed": lambda thing: zip_bytes(thing, zipfile.ZIP_DEFLATED),
    "zip, big-endian": lambda thing: zip_bytes(thing, byteorder="big"),
    "legacy": legacy_bytes,
    "legacy, big-endian": lambda thing: legacy_bytes(thing, little=False),
}


class Formats(ConverterTest):
    def each_way(self, thing, check):
        for way, save in SAVERS.items():
            with self.subTest(way=way):
                check(self.convert(save(thing)))

    def test_values_shapes_and_order(self):
        state = collections.OrderedDict()
        state["b.weight"] = Tensor([1, 2, 3, 4, 5, 6], (2, 3))
        state["a.weight"] = Tensor([7], ())
        state["a.empty"] = Tensor([], (0, 4))
        state["a.num_batches_tracked"] = Tensor(Storage([1 << 40], "I64"), ())

        def check(out):
            names = ["a.num_batches_tracked", "a.empty", "a.weight", "b.weight"]
            self.assertEqual(list(out.tensors), names)  # the widest type first, then by name
            self.assertEqual(out.tensors["b.weight"], [1, 2, 3, 4, 5, 6])
            self.assertEqual([out.shapes[name] for name in names], [(), (0, 4), (), (2, 3)])
            self.assertEqual(out.tensors["a.num_batches_tracked"], [1 << 40])
            self.assertEqual(out.metadata["format"], "tl")

        self.each_way(state, check)

    def test_views_of_a_storage(self):
        shared = Storage(range(24))
        state = {
            "transposed": Tensor(shared, (3, 2), (1, 3), 4),
            "channels_last": Tensor(Storage(range(2 * 3 * 2 * 2)), (2, 3, 2, 2), (12, 1, 6, 3)),
            "every_second": Tensor(shared, (3,), (2,), 1),
            "expanded": Tensor(Storage([5, 6]), (2, 3), (1, 0)),
            "filled": Tensor(Storage([8]), (2, 2), (0, 0)),
            "sliced": Tensor(shared, (2, 3), (6, 1), 12),
            "one_long_axis": Tensor(shared, (1, 5, 1), (77, 3, 99), 2),
        }

        def check(out):
            self.assertEqual(out.tensors["transposed"], [4, 7, 5, 8, 6, 9])
            expected = [b * 12 + c + h * 6 + w * 3 for b in (0, 1) for c in (0, 1, 2) for h in (0, 1) for w in (0, 1)]
            self.assertEqual(out.tensors["channels_last"], expected)
            self.assertEqual(out.tensors["every_second"], [1, 3, 5])
            self.assertEqual(out.tensors["expanded"], [5, 5, 5, 6, 6, 6])
            self.assertEqual(out.tensors["filled"], [8, 8, 8, 8])
            self.assertEqual(out.tensors["sliced"], [12, 13, 14, 18, 19, 20])
            self.assertEqual(out.tensors["one_long_axis"], [2, 5, 8, 11, 14])

        self.each_way(state, check)

    def test_element_types(self):
        f16 = [0.0, -0.0, 1.0, -2.5, 65504.0, 2.0**-24, math.inf]
        bf16 = {0x3F80: 1.0, 0xC020: -2.5, 0x7F80: math.inf, 0x0001: 2.0**-133}
        f64 = [1 / 3, -1e-300, 3.4028234663852886e38, math.inf]
        state = {
            "f16": Tensor(Storage(f16, "F16")),
            "bf16": Tensor(Storage(bf16, "BF16")),
            "f64": Tensor(Storage(f64, "F64")),
            "f64_transposed": Tensor(Storage([1, 2, 3, 4], "F64"), (2, 2), (1, 2)),
            "i64": Tensor(Storage([-1, 1 << 62], "I64")),
            "i32": Tensor(Storage([-1, 1 << 30], "I32")),
            "i16": Tensor(Storage([-(1 << 15), 7], "I16")),
            "i8": Tensor(Storage([-128, 127], "I8")),
            "u8": Tensor(Storage([0, 255], "U8")),
            "bool": Tensor(Storage([True, False, True], "BOOL")),
        }

        def check(out):
            self.assertEqual(out.tensors["f16"], f16)
            self.assertEqual(math.copysign(1, out.tensors["f16"][1]), -1)
            self.assertEqual(out.tensors["bf16"], list(bf16.values()))
            self.assertEqual(out.tensors["f64"], [struct.unpack("f", struct.pack("f", x))[0] for x in f64])
            self.assertEqual(out.tensors["f64_transposed"], [1, 3, 2, 4])
            for name in ("i64", "i32", "i16", "i8", "u8", "bool"):
                self.assertEqual(out.tensors[name], state[name].storage.values)
            kept = {"i64": "I64", "i32": "I32", "i16": "I32", "i8": "I8", "u8": "U8", "bool": "BOOL"}
            self.assertEqual(out.dtypes, {**dict.fromkeys(("f16", "bf16", "f64", "f64_transposed"), "F32"), **kept})

        self.each_way(state, check)

    def test_not_a_number_survives(self):
        for dtype, values in (("F16", [math.nan]), ("BF16", [0x7FC0]), ("F64", [math.nan])):
            out = self.convert(zip_bytes({"x": Tensor(Storage(values, dtype))}))
            self.assertTrue(math.isnan(out.tensors["x"][0]))

    def test_a_double_that_is_no_float_is_refused(self):
        self.refuse(zip_bytes({"big": Tensor(Storage([1e39], "F64"))}), "tensor big", "too large for 32 bits")

    def test_safetensors(self):
        entries = {
            "z": ("F16", (2,), struct.pack("<2e", 1.5, -2)),
            "y": ("F32", (1, 2), struct.pack("<2f", 3, 4)),
            "x": ("I64", (), struct.pack("<q", 9)),
            "w": ("F32", (0,), b""),
        }
        out = self.convert(safetensors_bytes(entries, {"format": "pt"}, pad=3))
        self.assertEqual(out.tensors, {"x": [9], "w": [], "y": [3, 4], "z": [1.5, -2]})
        self.assertEqual(out.metadata["source"].split(" ")[0], "in.pth")

    def test_the_output_converts_to_itself(self):
        state = {"conv.weight": Tensor(range(4)), "tied.weight": None, "n": Tensor(Storage([3], "I64"))}
        state["tied.weight"] = Tensor(state["conv.weight"].storage)
        self.convert(zip_bytes(state), classes=["a", "b"])
        with open(self.output, "rb") as file:
            first = file.read()
        self.convert(first)
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), first)

    def test_every_protocol_and_the_values_beside_the_weights(self):
        values = [1, -1, 300, 70_000, 1 << 40, 1 << 90, 0.5, "text", "x" * 300, b"bytes", b"y" * 300, None, True]
        values += [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {1, 2}, frozenset({1}), bytearray(b"z"), 2 + 3j]
        values += [collections.defaultdict(list, a=[1]), collections.Counter("aab"), argparse.Namespace(rate=0.1)]
        values.append(values[4:9])
        thing = {"state_dict": {"w": Tensor([1, 2])}, "rest": values, 7: "n", 0.5: "f", None: 1, (1, "a"): 2, b"k": 3}
        for protocol in (2, 3, 4, 5):
            data = pickled(thing, protocol=protocol)[0]
            self.assertEqual(self.convert(zip_bytes(thing, data_pkl=data)).tensors, {"w": [1, 2]})

    def test_the_pickle_of_python_2(self):
        w = pickled(Tensor([1, 2]))[0][2:-1]  # without PROTO and STOP
        data = b"\x80\x02ccollections\nOrderedDict\n](U\x01w" + w + b"\x86e\x85R."
        self.assertEqual(self.convert(zip_bytes({"w": Tensor([1, 2])}, data_pkl=data)).tensors, {"w": [1, 2]})

    def test_parameters_and_subclasses(self):
        state = {"w": Tensor([1, 2], rebuild="_rebuild_parameter"), "tied": None}
        state["tied"] = Tensor(state["w"].storage)
        out = self.convert(zip_bytes(state))
        self.assertEqual((out.tensors, out.metadata["tied"]), ({"w": [1, 2]}, "w"))
        w = pickletools.optimize(pickled(Tensor([1, 2]))[0])[2:-2]  # up to the arguments of the call
        call, arguments = w[: w.index(b"(")], w[w.index(b"(") :]
        wrapped = b"ctorch._tensor\n_rebuild_from_type_v2\n(" + call + b"ctorch.nn.parameter\nParameter\n" + arguments
        data = b"\x80\x02}U\x01w" + wrapped + b"}tRs."
        self.assertEqual(self.convert(zip_bytes({"w": Tensor([1, 2])}, data_pkl=data)).tensors, {"w": [1, 2]})

    def test_old_rebuild_without_hooks(self):
        out = self.convert(legacy_bytes({"w": Tensor([1, 2], rebuild="_rebuild_tensor")}))
        self.assertEqual(out.tensors["w"], [1, 2])


if __name__ == "__main__":
    crafting.main()
