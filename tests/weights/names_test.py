"""Which tensors of a checkpoint are taken, how they are named, which architecture they are, and what is said of it."""

import argparse
import collections
import json
import math

import crafting  # first: it says where the converter is
from crafting import ConverterTest, Storage, Tensor, legacy_bytes, safetensors_bytes, zip_bytes

import architectures
from tensors import ConvertError, UsageError


def numbers(*values):
    return Tensor([float(value) for value in values])


class Containers(ConverterTest):
    def test_nested_state_dict(self):
        for key in ("state_dict", "model_state_dict", "model", "net", "params", "anything"):
            state = {"layer.weight": numbers(1, 2), "layer.bias": numbers(3)}
            options = argparse.Namespace(rate=0.1)
            thing = {"epoch": 3, "best": 0.9, "args": options, "names": {"a", "b"}, key: state, "list": [1, (2, None)]}
            for save in (zip_bytes, legacy_bytes):
                self.assertEqual(set(self.convert(save(thing)).tensors), set(state))
                self.assertIn(f"'{key}' (2)", self.notes[0])

    def test_the_named_dictionary_wins_over_a_larger_one(self):
        average = {f"w{i}": numbers(i) for i in range(5)}
        state = {f"w{i}": numbers(10 + i) for i in range(4)}
        out = self.convert(zip_bytes({"ema": average, "state_dict": state}))
        self.assertEqual(out.tensors["w1"], [11])
        self.assertIn("other dictionaries of tensors are left out: ema (5)", self.notes)

    def test_the_largest_dictionary_wins(self):
        small = {f"w{i}": numbers(i) for i in range(4)}
        out = self.convert(zip_bytes({"a": small, "b": {"c": {f"v{i}": numbers(i) for i in range(5)}}}))
        self.assertEqual(len(out.tensors), 5)
        self.assertEqual(self.notes[:2], ["the tensors are those of 'b.c' (5)", self.notes[1]])

    def test_other_entries_are_named(self):
        state = collections.OrderedDict({"w": numbers(1), "step": 7})
        state._metadata = {"": {"version": 1}}  # PyTorch keeps versions of modules as an attribute
        self.assertEqual(list(self.convert(zip_bytes(state)).tensors), ["w"])
        self.assertIn("entries that are no tensors are left out: step", self.notes)

    def test_no_tensors(self):
        for thing in ({}, {"a": 1}, [numbers(1)], numbers(1), None, "text", {"deep": [{"w": numbers(1)}]}):
            self.refuse(zip_bytes(thing), "holds no dictionary of tensors")
        self.refuse(safetensors_bytes({}), "holds no tensors")


class Names(ConverterTest):
    def test_fr13_prefixes_are_stripped(self):
        for prefix in ("module.", "model.", "_orig_mod.", "backbone.", "module._orig_mod.", "model.backbone."):
            out = self.convert(zip_bytes({prefix + "a.weight": numbers(1), prefix + "b.weight": numbers(2)}))
            self.assertEqual(out.tensors, {"a.weight": [1], "b.weight": [2]})
            self.assertEqual(sum("stripped from 2 names" in note for note in self.notes), prefix.count("."))

    def test_fr13_a_prefix_of_most_names(self):
        state = {"backbone.a": numbers(1), "backbone.b": numbers(2), "head.weight": numbers(3)}
        self.assertEqual(set(self.convert(zip_bytes(state)).tensors), {"a", "b", "head.weight"})
        self.assertIn("prefix 'backbone.' stripped from 2 names (1 had none)", self.notes)
        state = {"backbone.a": numbers(1), "x": numbers(2), "head.weight": numbers(3)}
        self.assertEqual(set(self.convert(zip_bytes(state)).tensors), set(state))

    def test_fr13_gamma_and_beta(self):
        state = {"LayerNorm.gamma": numbers(1), "LayerNorm.beta": numbers(2), "scale.gamma": numbers(3)}
        out = self.convert(zip_bytes(state))
        self.assertEqual(out.tensors, {"LayerNorm.weight": [1], "LayerNorm.bias": [2], "scale.gamma": [3]})
        self.assertIn("gamma and beta of 1 layer renamed to weight and bias", self.notes)

    def test_two_tensors_of_one_name(self):
        state = {"module.a": numbers(1), "module.b": numbers(2), "a": numbers(3)}
        self.refuse(zip_bytes(state), "two tensors that are both a without the prefix 'module.'")

    def test_names_that_no_file_should_have(self):
        for name in ("", "a\nb", "\x1b[31m", "__metadata__", "x" * 513, "\ud800"):
            self.refuse(legacy_bytes({name: numbers(1)}), "name is empty, too long or unprintable")

    def test_fr14_tied_weights_are_stored_once(self):
        shared = Storage([1, 2, 3, 4])
        state = {"embed.weight": Tensor(shared, (2, 2)), "head.weight": Tensor(shared, (2, 2))}
        state["other_view"] = Tensor(shared, (2, 2), (1, 2))
        for save in (zip_bytes, legacy_bytes):
            out = self.convert(save(state))
            self.assertEqual(out.metadata["head.weight"], "embed.weight")
            self.assertEqual(out.tensors, {"embed.weight": [1, 2, 3, 4], "other_view": [1, 3, 2, 4]})
            self.assertEqual(self.result.parameters(), 8)
            self.assertIn("tied weights stored once: head.weight = embed.weight", self.notes)

    def test_fr14_aliases_of_safetensors_files(self):
        entries = {"model.embed": ("F32", (1,), bytes(4)), "model.b": ("F32", (1,), bytes(4))}
        out = self.convert(safetensors_bytes(entries, {"model.head": "model.embed", "model.third": "model.head"}))
        self.assertEqual({k: v for k, v in out.metadata.items() if v == "embed"}, {"head": "embed", "third": "embed"})

    def test_fr14_an_alias_to_nothing_or_in_a_circle(self):
        entries = {"a": ("F32", (1,), bytes(4))}
        for wrong in ({"b": "c"}, {"b": "c", "c": "b"}, {"b": "b"}):
            self.refuse(safetensors_bytes(entries, {"format": "tl", **wrong}), "leads to no tensor")

    def test_an_alias_never_hides_metadata(self):
        shared = Storage([1])
        out = self.convert(zip_bytes({"a": Tensor(shared), "arch": Tensor(shared)}))
        self.assertEqual(set(out.tensors), {"a", "arch"})


class Shape:
    """Stands for a tensor where only shapes matter."""

    def __init__(self, shape):
        self.shape = shape


def network(name, classes=1000):
    arch = architectures.ARCHITECTURES[name]
    head = {key: (classes, *shape[1:]) for key, shape in arch.head.items()}
    return {key: Shape(tuple(n or 7 for n in shape)) for key, shape in {**arch.table({}), **head}.items()}


def find(tensors, asked=None):
    notes = []
    name, _ = architectures.find_architecture(tensors, asked, True, notes.append)
    return name, notes


# Trainable numbers with 1,000 classes (10 for the CIFAR networks), as their own libraries count them.
PARAMETERS = {
    "cifar_resnet20": 269_722,
    "cifar_resnet32": 464_154,
    "cifar_resnet44": 658_586,
    "cifar_resnet56": 853_018,
    "cifar_resnet110": 1_727_962,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "squeezenet1_1": 1_235_496,
}


class Architectures(ConverterTest):
    def test_tables(self):
        for name, expected in PARAMETERS.items():
            shapes = network(name, 10 if "cifar" in name else 1000)
            counts = [math.prod(s.shape) for key, s in shapes.items() if ".running_" not in key]
            self.assertEqual(sum(counts), expected, name)

    def test_each_is_recognised_and_no_other(self):
        for name in architectures.ARCHITECTURES:
            if name != "bert":
                self.assertEqual(find(network(name)), (name, []))

    def test_counters_and_few_extras_do_not_matter(self):
        tensors = network("resnet18")
        tensors["bn1.num_batches_tracked"] = Shape(())
        self.assertEqual(find(tensors), ("resnet18", []))
        tensors["fc2.weight"] = Shape((3, 4))
        self.assertEqual(find(tensors), ("resnet18", ["tensors beside those of resnet18: fc2.weight"]))

    def test_without_a_head(self):
        tensors = network("resnet18")
        del tensors["fc.weight"], tensors["fc.bias"]
        self.assertEqual(find(tensors), ("resnet18", ["resnet18 without its head (fc.weight, fc.bias): features only"]))

    def test_half_a_head_is_not_safe(self):
        tensors = network("resnet18")
        del tensors["fc.bias"]
        self.assertEqual(find(tensors)[0], None)

    def test_efficientnet_names_of_another_library(self):
        names = {
            "_conv_stem.weight": "conv_stem.weight",
            "_bn0.running_var": "bn1.running_var",
            "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
            "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
            "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
            "_blocks.0._bn2.weight": "blocks.0.0.bn2.weight",
            "_blocks.4._expand_conv.weight": "blocks.2.1.conv_pw.weight",
            "_blocks.4._bn0.bias": "blocks.2.1.bn1.bias",
            "_blocks.4._depthwise_conv.weight": "blocks.2.1.conv_dw.weight",
            "_blocks.4._bn1.num_batches_tracked": "blocks.2.1.bn2.num_batches_tracked",
            "_blocks.15._expand_conv.weight": "blocks.6.0.conv_pw.weight",
            "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
            "_blocks.15._bn2.weight": "blocks.6.0.bn3.weight",
            "_conv_head.weight": "conv_head.weight",
            "_bn1.weight": "bn2.weight",
            "_fc.bias": "classifier.bias",
        }
        tensors = {name: Shape((1,)) for name in names}
        blocks = {f"_blocks.{block}._x.y": Shape((1,)) for block in range(16)}
        renamed = list(architectures.rename_efficientnet({**tensors, **blocks}, lambda text: None))
        self.assertEqual(renamed[: len(names)], list(names.values()))
        for other in (tensors, {**tensors, **blocks, "_blocks.3._se_reduce.weight": Shape((1,))}):  # a B0 has _se_
            self.assertIs(architectures.rename_efficientnet(other, lambda text: None), other)
        with self.assertRaisesRegex(ConvertError, "names of two libraries at once"):
            both = {**tensors, **blocks, "classifier.bias": Shape((1,))}
            architectures.rename_efficientnet(both, lambda text: None)

    def test_bert_heads(self):
        notes = []
        for width, heads in ((384, {"heads": 12}), (768, {"heads": 12}), (100, {})):
            tensors = {"embeddings.word_embeddings.weight": Shape((9, width))}
            self.assertEqual(architectures.bert_heads(tensors, notes.append), heads)
        self.assertIn("not known for width 100", notes[0])

    def test_another_width_is_not_recognised(self):
        tensors = network("resnet18")
        tensors["layer2.0.conv1.weight"] = Shape((96, 64, 3, 3))
        self.assertEqual(find(tensors)[0], None)

    def test_an_architecture_that_does_not_fit(self):
        with self.assertRaises(ConvertError) as caught:
            find(network("resnet18"), "resnet34")
        self.assertIn("does not fit --arch resnet34: missing: layer1.2.conv1.weight", str(caught.exception))
        with self.assertRaises(ConvertError) as caught:
            find(network("resnet34"), "resnet18")
        self.assertIn("unexpected: layer1.2.conv1.weight", str(caught.exception))
        tensors = network("resnet18")
        tensors["conv1.weight"] = Shape((64, 1, 7, 7))
        with self.assertRaises(ConvertError) as caught:
            find(tensors, "resnet18")
        self.assertIn("misshaped: conv1.weight is [64, 1, 7, 7], must be [64, 3, 7, 7]", str(caught.exception))
        with self.assertRaises(UsageError):
            find(tensors, "resnet19")

    def test_bert(self):
        width, inner, tensors = 8, 16, {}
        for table, rows in (("word", 50), ("position", 20), ("token_type", 2)):
            tensors[f"bert.embeddings.{table}_embeddings.weight"] = (rows, width)
        for layer in range(2):
            name = f"bert.encoder.layer.{layer}"
            for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
                tensors[f"{name}.{part}.weight"], tensors[f"{name}.{part}.bias"] = (width, width), (width,)
            for part, inputs, out in (
                ("attention.output.dense", width, width),
                ("intermediate.dense", width, inner),
                ("output.dense", inner, width),
            ):
                tensors[f"{name}.{part}.weight"], tensors[f"{name}.{part}.bias"] = (out, inputs), (out,)
            for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
                tensors[f"{name}.{norm}.gamma"], tensors[f"{name}.{norm}.beta"] = (width,), (width,)
        tensors["bert.embeddings.LayerNorm.gamma"], tensors["bert.embeddings.LayerNorm.beta"] = (width,), (width,)
        state = {name: Tensor([0] * math.prod(shape), shape) for name, shape in tensors.items()}
        state["bert.embeddings.position_ids"] = Tensor(Storage(range(20), "I64"), (1, 20))
        out = self.convert(zip_bytes(state), details={"constants": {"heads": 2, "pooling": "mean"}})
        self.assertEqual(out.metadata["arch"], "bert")
        self.assertIn("encoder.layer.1.output.LayerNorm.weight", out.tensors)
        self.assertNotIn("embeddings.position_ids", out.tensors)
        constants = json.loads(out.metadata["constants"])
        self.assertEqual(constants, {"layer_norm_eps": 1e-12, "activation": "gelu", "heads": 2, "pooling": "mean"})
        del state["bert.encoder.layer.1.output.dense.bias"]
        self.convert(zip_bytes(state))
        self.assertEqual(self.result.arch, "unknown")


class Metadata(ConverterTest):
    def lenet(self, classes=10):
        shapes = {"conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120)}
        shapes["fc3"] = (classes, 84)
        state = {f"{key}.weight": Tensor([0] * math.prod(shape), shape) for key, shape in shapes.items()}
        state.update({f"{key}.bias": Tensor([0] * shape[0]) for key, shape in shapes.items()})
        return state

    def test_classes(self):
        out = self.convert(zip_bytes(self.lenet(3)), classes=["Katze", "犬", 'a "b"'])
        self.assertEqual(json.loads(out.metadata["classes"]), ["Katze", "犬", 'a "b"'])
        self.assertEqual(out.metadata["arch"], "lenet")
        self.assertNotIn("classes", self.convert(zip_bytes(self.lenet(3))).metadata)

    def test_another_number_of_classes(self):
        self.refuse(zip_bytes(self.lenet(3)), "head of 3 outputs, but --classes names 2", classes=["a", "b"])

    def test_fr15_constants_and_fr19_preprocessing(self):
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        expected = {
            "cifar_resnet20": (1e-5, "torch", "relu", 32, 32, "bilinear", mean, std),
            "resnet50": (1e-5, "torch", "relu", 224, 256, "bilinear", mean, std),
            "mobilenet_v2": (1e-5, "torch", "relu6", 224, 256, "bilinear", mean, std),
            "mobilenet_v2_folded": (None, "torch", "relu6", 224, 256, "bilinear", mean, std),
            "mobilenet_v2_gluon": (1e-5, "torch", "relu", 224, 256, "bilinear", mean, std),
            "efficientnet_lite0": (1e-3, "same_tf", "relu6", 224, 256, "bicubic", [0.5] * 3, [0.5] * 3),
            "efficientnet_lite1": (1e-3, "same_tf", "relu6", 240, 272, "bicubic", [0.5] * 3, [0.5] * 3),
            "efficientnet_lite2": (1e-3, "same_tf", "relu6", 260, 292, "bicubic", [0.5] * 3, [0.5] * 3),
            "squeezenet1_1": (None, "torch", "relu", 224, 256, "bilinear", mean, std),
        }
        for name, (eps, padding, activation, size, resize, interpolation, mean, std) in expected.items():
            arch = architectures.ARCHITECTURES[name]
            constants = {"padding": padding, "activation": activation}
            if eps:
                constants.update(bn_eps=eps, bn_momentum=0.1)
            self.assertEqual(arch.constants, constants, name)
            picture = {"size": size, "resize": resize, "interpolation": interpolation, "mean": mean, "std": std}
            picture.update(channels="RGB", range="0..1", crop_fraction=round(size / resize, 3))
            self.assertEqual(arch.preprocess, picture, name)
            self.assertEqual(int(size / picture["crop_fraction"]), resize)

    def test_fr15_what_a_tl_file_says_stays(self):
        out = self.convert(zip_bytes(self.lenet()), details={"constants": {"activation": "tanh"}})
        self.assertEqual(json.loads(out.metadata["constants"])["activation"], "tanh")
        with open(self.output, "rb") as file:
            again = self.convert(file.read())
        self.assertEqual(again.metadata, out.metadata)

    def test_fr15_two_trainings_of_one_network(self):
        tensors = network("efficientnet_lite0")
        notes = []
        name, google = architectures.find_architecture(tensors, None, False, notes.append)
        self.assertIn("--arch efficientnet_lite0.ra_in1k", notes[0])
        again, timm = architectures.find_architecture(tensors, "efficientnet_lite0.ra_in1k", False, notes.append)
        self.assertEqual((name, again), ("efficientnet_lite0", "efficientnet_lite0"))
        self.assertEqual((google.constants["bn_eps"], timm.constants["bn_eps"]), (1e-3, 1e-5))


if __name__ == "__main__":
    crafting.main()
