"""Runs the example programs on pictures made here. Usage: programs.py FOLDER_OF_PROGRAMS"""

import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

PROGRAMS = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path("build/release/examples")


def run(name, *arguments, expect=0):
    done = subprocess.run([str(PROGRAMS / name), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != expect:
        raise AssertionError(f"{name} {arguments} gave {done.returncode}, not {expect}:\n{done.stdout}\n{done.stderr}")
    return done


def refusal(expect, name, *arguments):
    """The error of a run that must fail: one line, below what warnings there are."""
    lines = run(name, *arguments, expect=expect).stderr.strip().splitlines()
    assert lines[-1].startswith("error: ") and all(line.startswith("warning: ") for line in lines[:-1]), lines
    return lines[-1]


def last_json(done):
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_picture(path, wide, seed):
    """A bright bar on dark noise, lying or standing."""
    noise = random.Random(seed)
    pixels = bytearray(noise.randrange(60) for _ in range(32 * 32 * 3))
    at = noise.randrange(8, 20)
    for y in range(32):
        for x in range(32):
            if at <= (y if wide else x) < at + 5:
                pixels[(y * 32 + x) * 3:(y * 32 + x) * 3 + 3] = bytes([230, 220, 210])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6 32 32 255\n" + bytes(pixels))


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def proto_fields(data):
    """The fields of a message of protocol buffers as (number, value); lengths are left as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield key >> 3, data[at:at + size]
        at += size


def read_events(folder):
    """(tag, step, value) of each scalar in a folder's event files, checked by their checksums; value None for others."""
    out = []
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        at = 0
        while at < len(data):
            length, length_crc = struct.unpack_from("<QI", data, at)
            record = data[at + 12:at + 12 + length]
            (record_crc,) = struct.unpack_from("<I", data, at + 12 + length)
            for part, crc in ((data[at:at + 8], length_crc), (record, record_crc)):
                plain = crc32c(part)
                assert (((plain >> 15) | (plain << 17)) + 0xa282ead8) & 0xffffffff == crc
            at += 16 + length
            event = dict(proto_fields(record))
            if 5 in event:
                value = dict(proto_fields(dict(proto_fields(event[5]))[1]))
                out.append((value[1].decode(), event[2], struct.unpack("<f", value[2])[0] if 2 in value else None))
    return out


def write_mask(path, inside):
    """A grey PNG of 32 x 32, white where inside(x, y)."""
    rows = b"".join(b"\0" + bytes(255 * inside(x, y) for x in range(32)) for y in range(32))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks))


def write_tile(path, defect, seed):
    """Grey noise; a defect is a block of 8 x 8, bright or dark, with its mask beside it."""
    noise = random.Random(seed)
    left, top = noise.randrange(24), noise.randrange(24)
    inside = lambda x, y: left <= x < left + 8 and top <= y < top + 8
    level = {"bright": 240, "dark": 10, "free": 128}[defect]
    pixels = bytes(level if inside(x, y) else 108 + noise.randrange(40) for y in range(32) for x in range(32))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P5 32 32 255\n" + pixels)
    if defect != "free":
        write_mask(path.with_suffix(".png"), inside)


def write_idx(folder, name, pictures):
    """pictures: (28 x 28 bytes, label) pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">IIII", 0x803, len(pictures), 28, 28)
    (folder / f"{name}-images-idx3-ubyte").write_bytes(head + b"".join(pixels for pixels, _ in pictures))
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(pictures)) + bytes(y for _, y in pictures))


def bar(wide, seed):
    """The grey picture of 28 x 28 that write_picture's would be."""
    noise = random.Random(seed)
    at = noise.randrange(8, 16)
    return bytes(220 if at <= (y if wide else x) < at + 5 else noise.randrange(60) for y in range(28) for x in range(28))


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        root = cls.root = pathlib.Path(cls.folder.name)
        for part, count in (("train", 40), ("val", 12)):
            for i in range(count):
                for wide, name in ((True, "lying"), (False, "standing")):
                    write_picture(root / "bars" / part / name / f"{i:03}.ppm", wide, 1000 * i + 2 * (part == "val") + wide)
        (root / "bars" / "train" / "lying" / "notes.txt").write_text("no picture")
        (root / "bars" / "train" / "lying" / "broken.ppm").write_bytes(b"P6 32 32 255\nshort")
        cls.model = root / "bars.safetensors"
        cls.training = run("finetune_images", root / "bars", "--arch", "lenet", "--strategy", "scratch", "--epochs", 20, "--lr", 3e-3,
                           "--no-augment", "--save", cls.model, "--report", root / "report", "--tensorboard", root / "events", "--seed", 3)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_lecture_one_checks_its_gradient(self):
        self.assertLess(last_json(run("01_tensors_and_gradients"))["gradient_error"], 1e-8)

    def test_lecture_two_learns_the_spirals(self):
        self.assertGreater(last_json(run("02_train_from_scratch", "--quiet", "--device", "cpu"))["test_accuracy"], 0.95)

    def test_finetune_images_reports_what_it_did(self):
        result = last_json(self.training)
        for key in ("train_images", "val_images", "val_accuracy", "best_val_accuracy", "epochs", "seconds", "trainable_parameters", "peak_bytes"):
            self.assertIn(key, result)
        self.assertEqual((result["train_images"], result["val_images"]), (81, 24))
        self.assertGreaterEqual(result["val_accuracy"], 0.9)
        page = (self.root / "report" / "report.html").read_text()
        self.assertIn("standing", page)
        self.assertIn("</html>", page)

    def test_the_report_looks_into_the_run(self):
        report = json.loads((self.root / "report" / "report.json").read_text())
        after = report["feature_maps"][-1]
        self.assertEqual((after["title"], len(after["points"])), ("after training", 24))
        self.assertEqual(sum(bin["count"] for bin in report["calibration"][0]["bins"]), 24)

    def test_find_lr_suggests_a_rate_and_writes_the_curve(self):
        folder = self.root / "rates"
        done = run("finetune_images", self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--no-augment", "--find-lr",
                   "--report", folder, "--quiet")
        result = last_json(done)
        self.assertTrue(1e-6 < result["suggestion"] < 1, result)
        lines = (folder / "rate_finder.tsv").read_text().splitlines()
        self.assertEqual((lines[0], len(lines)), ("rate\tloss", result["steps"] + 1))
        self.assertIn("</html>", (folder / "rate_finder.html").read_text())

    def test_event_files_hold_the_curves(self):
        events = read_events(self.root / "events")
        log = json.loads((self.root / "report" / "report.json").read_text())["runs"][0]["seeds"][0]["epochs"]
        for tag, key in (("loss/train", "train_loss"), ("accuracy/val", "val_accuracy"), ("run/seconds", "seconds")):
            curve = {step: value for name, step, value in events if name == tag}
            self.assertEqual(list(curve), list(range(1, 21)))
            for epoch in log:
                self.assertAlmostEqual(curve[epoch["epoch"]], epoch[key], delta=1e-6 * max(1, abs(epoch[key])))
        tags = {name for name, _, _ in events}
        self.assertIn("run", tags)
        self.assertIn("weights/fc3.weight", tags)

    def test_tensorboard_reads_the_event_files(self):
        try:
            from tensorboard.backend.event_processing import event_accumulator
        except ImportError:
            self.skipTest("there is no package tensorboard")
        loaded = event_accumulator.EventAccumulator(str(self.root / "events"))
        loaded.Reload()
        tags = loaded.Tags()
        self.assertTrue({"loss/train", "loss/val", "accuracy/val"} <= set(tags["scalars"]), tags)
        self.assertEqual([event.step for event in loaded.Scalars("loss/train")], list(range(1, 21)))
        self.assertIn("weights/fc3.weight", tags["histograms"])
        last = loaded.Histograms("weights/fc3.weight")[-1].histogram_value
        self.assertEqual(sum(last.bucket), 84 * 2)
        self.assertTrue(any("run" in tag for tag in tags["tensors"]), tags)

    def test_broken_and_foreign_files_are_reported_and_left_out(self):
        self.assertIn("broken.ppm", self.training.stderr)
        self.assertIn("skipped 1 file", self.training.stderr)

    def test_a_saved_model_predicts_the_same_in_a_new_process(self):
        pictures = sorted((self.root / "bars" / "val").glob("*/*.ppm"))
        first, second = (run("predict_images", self.model, *pictures, "--logits") for _ in range(2))
        lines = [json.loads(line) for line in first.stdout.strip().splitlines()]
        self.assertEqual(lines[-1]["images"], 24)
        self.assertEqual(lines[:-1], [json.loads(line) for line in second.stdout.strip().splitlines()][:-1])
        hits = sum(line["class"] == pathlib.Path(line["file"]).parent.name for line in lines[:-1])
        self.assertAlmostEqual(hits / 24, last_json(self.training)["val_accuracy"])
        self.assertEqual(len(lines[0]["logits"]), 2)

    def test_adapters_predict_the_same_from_a_whole_file_and_beside_their_base(self):
        pictures = sorted((self.root / "bars" / "val").glob("*/*.ppm"))
        for strategy in (["lora", "--rank", 2], ["adapters", "--targets", "fc[12]"], ["bitfit"]):
            whole, adapters = self.root / f"{strategy[0]}.safetensors", self.root / f"{strategy[0]}-only.safetensors"
            result = last_json(run("finetune_images", self.root / "bars", "--weights", self.model, "--strategy", *strategy, "--epochs", 2,
                                   "--no-augment", "--quiet", "--save", whole, "--save-adapters", adapters))
            self.assertLess(adapters.stat().st_size, self.model.stat().st_size / 4)
            one = run("predict_images", whole, *pictures, "--logits")
            two = run("predict_images", self.model, "--adapters", adapters, *pictures, "--logits")
            lines = [[json.loads(line) for line in done.stdout.strip().splitlines()][:-1] for done in (one, two)]
            self.assertEqual(lines[0], lines[1])
            hits = sum(line["class"] == pathlib.Path(line["file"]).parent.name for line in lines[0])
            self.assertAlmostEqual(hits / 24, result["val_accuracy"])
            self.assertIn("adapters alone", run("predict_images", adapters, pictures[0], expect=1).stderr)
            spoilt = self.root / "cut-adapters.safetensors"
            spoilt.write_bytes(adapters.read_bytes()[:-20])
            self.assertIn("is the file complete", refusal(1, "predict_images", self.model, "--adapters", spoilt, pictures[0]))
        other = self.root / "other-base.safetensors"
        run("finetune_images", self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--epochs", 1, "--quiet", "--save", other)
        self.assertIn("was trained on other weights", refusal(1, "predict_images", other, "--adapters", adapters, pictures[0]))

    def test_one_broken_picture_does_not_stop_the_others(self):
        good = next((self.root / "bars" / "val" / "lying").glob("*.ppm"))
        done = run("predict_images", self.model, self.root / "bars" / "train" / "lying" / "broken.ppm", good, self.root / "none.png", expect=1)
        lines = [json.loads(line) for line in done.stdout.strip().splitlines()]
        self.assertIn("error", lines[0])
        self.assertEqual(lines[1]["class"], "lying")
        self.assertIn("error", lines[2])
        self.assertEqual((lines[3]["images"], lines[3]["failed"]), (3, 2))

    def test_recommend_images_ranks_weights_and_says_why(self):
        other = self.root / "other.safetensors"
        run("finetune_images", self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--epochs", 1, "--lr", 1e-6,
            "--quiet", "--save", other, "--seed", 9)
        done = run("recommend_images", self.root / "bars", "--weights", other, self.model, "--quiet")
        result = last_json(done)
        self.assertEqual((result["train_images"], result["weights"]), (81, str(self.model)))
        self.assertEqual([c["weights"] for c in result["candidates"]], [str(self.model), str(other)])
        self.assertEqual(len(result["choices"]), 4)
        self.assertEqual(result["warning"], "")
        self.assertIn("LogME", result["why"])
        self.assertIn(result["why"], done.stdout)  # the numbered list says the same
        one_class = self.root / "one_class"
        for i in range(6):
            write_picture(one_class / "lying" / f"{i}.ppm", True, i)
        self.assertIn("at least two", run("recommend_images", one_class, "--weights", self.model, expect=2).stderr)
        self.assertIn("leave them out", run("recommend_images", self.root / "bars", "--weights", os.devnull, expect=1).stderr)

    def test_fashion_tells_articles_apart_and_finds_similar_ones(self):
        shop = self.root / "shop"
        for name, count, first in (("train", 60, 0), ("t10k", 20, 1000)):
            write_idx(shop, name, [(bar(i % 2 == 0, first + i), i % 2) for i in range(count)])
        result = last_json(run("fashion", shop, "--weights", self.model, "--quiet", "--report", self.root / "shop_report"))
        self.assertEqual((result["train_images"], result["val_images"]), (60, 20))
        self.assertGreaterEqual(result["val_accuracy"], 0.9)
        self.assertGreaterEqual(result["precision"], 0.8)
        self.assertEqual(set(result["precision_by_class"]), {"0", "1"})
        self.assertTrue((self.root / "shop_report" / "similar.png").read_bytes().startswith(b"\x89PNG"))

    def test_medical_images_of_two_classes_have_a_threshold(self):
        clinic = self.root / "clinic"
        for name, count, first in (("train", 60, 0), ("val", 30, 1000), ("test", 30, 2000)):
            write_idx(clinic, name, [(bar(i % 3 == 0, first + i), int(i % 3 == 0)) for i in range(count)])
        leaked = [(bar(i % 3 == 0, i), int(i % 3 == 0)) for i in range(2)]  # training pictures in the test set
        write_idx(clinic, "test", [(bar(i % 3 == 0, 2000 + i), int(i % 3 == 0)) for i in range(30)] + leaked)
        done = run("medical_images", clinic, "--weights", self.model, "--quiet", "--report", self.root / "clinic_report")
        result = last_json(done)
        self.assertIn("2 pairs of a training and a test picture are equal", done.stderr)
        self.assertEqual(result["on_both_sides"], 2)
        for measure in ("sensitivity", "specificity", "auc"):
            self.assertGreaterEqual(result[measure], 0.9, measure)
        self.assertIn("threshold one half", done.stdout)
        page = (self.root / "clinic_report" / "report.html").read_text()
        for words in ("pneumonia", "<h3>As trained</h3>", "<h3>After scaling</h3>", "Test. Bars show"):
            self.assertIn(words, page)
        bins = [sum(b["count"] for b in curve["bins"]) for curve in json.loads(
            (self.root / "clinic_report" / "report.json").read_text())["calibration"]]
        self.assertEqual(bins, [32, 32])
        self.assertLess(result["calibration_error_after"], 0.2)

    def test_medical_images_of_more_classes_have_recalls(self):
        cells = self.root / "cells"
        for part, count in (("train", 12), ("val", 6), ("test", 6)):
            for i in range(count):
                seed = 10 * i + {"train": 0, "val": 1, "test": 2}[part]
                write_picture(cells / part / "lying" / f"{i}.ppm", True, seed)
                write_picture(cells / part / "standing" / f"{i}.ppm", False, seed)
                write_tile(cells / part / "round" / f"{i}.pgm", "free", seed)
        result = last_json(run("medical_images", cells, "--weights", self.model, "--quiet", "--strategy", "features"))
        self.assertEqual(set(result["recall"]), {"lying", "standing", "round"})
        self.assertGreaterEqual(min(result["auc"].values()), 0.8)
        done = run("medical_images", self.root / "bars", "--weights", self.model, "--quiet", expect=2)
        self.assertIn("has no test pictures", done.stderr)

    def test_product_defects_says_which_and_where(self):
        tiles, small = self.root / "tiles", self.root / "small.safetensors"
        for defect, count in (("bright", 24), ("dark", 12), ("free", 40)):
            for i in range(count):
                write_tile(tiles / defect / f"{i:02}.pgm", defect, 100 * i + len(defect))
        run("finetune_images", self.root / "bars", "--arch", "cifar_resnet20", "--strategy", "scratch", "--epochs", 1, "--quiet", "--save", small)
        result = last_json(run("product_defects", tiles, "--weights", small, "--extensions", "pgm", "--layer", "layer3", "--strategy", "scratch",
                               "--epochs", 12, "--quiet", "--report", self.root / "tiles_report"))
        self.assertEqual((result["val_images"], result["masks"]), (15, 7))
        self.assertEqual(set(result["recall"]), {"bright", "dark", "free"})
        self.assertGreaterEqual(result["balanced_accuracy"], 0.8)
        self.assertGreaterEqual(result["pixel_auc"], 0.75)
        self.assertTrue((self.root / "tiles_report" / "where.png").read_bytes().startswith(b"\x89PNG"))
        self.assertIn("</html>", (self.root / "tiles_report" / "report.html").read_text())

        settings = ["--weights", small, "--strategy", "scratch", "--epochs", 1, "--quiet"]
        masks = refusal(2, "product_defects", tiles, *settings, "--layer", "layer3")  # which are PNG pictures as well
        self.assertIn("is the mask of", masks)
        self.assertIn("Hint: --extensions", masks)
        for layer, words in (("layer9", "Nearest: layer1"), ("layer1", "--layer layer1: expected the map"), ("linear", "expected the map")):
            self.assertIn(words, refusal(2, "product_defects", tiles, *settings, "--extensions", "pgm", "--layer", layer))
        for mask in tiles.glob("*/*.png"):
            mask.unlink()
        without = last_json(run("product_defects", tiles, *settings, "--layer", "layer3", "--report", self.root / "maskless"))
        self.assertEqual((without["masks"], without["pixel_auc"]), (0, None))

    def test_multitask_images_answers_two_questions_also_with_labels_missing(self):
        styles = self.root / "styles"
        for i in range(20):
            for wide, name in ((True, "lying"), (False, "standing")):
                for style in ("colour", "grey"):
                    path = styles / style / name / f"{i}.ppm"
                    write_picture(path, wide, 50 * i + 2 * wide)
                    if style == "grey":  # inverted
                        path.write_bytes(b"P6 32 32 255\n" + bytes(255 - p for p in path.read_bytes()[-3 * 32 * 32:]))
        for missing in (0, 0.3):
            result = last_json(run("multitask_images", styles, "--weights", self.model, "--quiet", "--strategy", "scratch", "--epochs", 60,
                                   "--missing", missing))
            self.assertEqual(set(result["runs"]), {"both", "style alone", "object alone"})
            self.assertGreaterEqual(min(result["runs"]["both"][task + " accuracy"] for task in ("style", "object")), 0.85)
            self.assertEqual(result["hidden"] > 0, missing > 0)
            self.assertLess(result["runs"]["both"]["parameters"], 1.1 * result["runs"]["object alone"]["parameters"])

    def test_inspect_weights_counts(self):
        result = last_json(run("inspect_weights", self.model))
        self.assertEqual((result["arch"], result["tensors"]), ("lenet", 10))
        self.assertEqual(result["parameters"], 6 * 25 + 6 + 16 * 150 + 16 + 400 * 120 + 120 + 120 * 84 + 84 + 84 * 2 + 2)

    def test_a_run_goes_on_from_its_checkpoint(self):
        arguments = [self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--seed", 1, "--no-augment", "--quiet"]
        whole, half = self.root / "whole.safetensors", self.root / "half.safetensors"
        run("finetune_images", *arguments, "--epochs", 2, "--save", whole)
        checkpoint = self.root / "checkpoint.safetensors"
        run("finetune_images", *arguments, "--epochs", 2, "--checkpoint", checkpoint, "--save", half)
        self.assertEqual(whole.read_bytes(), half.read_bytes())
        run("finetune_images", *arguments, "--epochs", 2, "--checkpoint", checkpoint, "--save", half)  # nothing is left to do
        self.assertEqual(whole.read_bytes(), half.read_bytes())

    def test_threads_do_not_change_the_result(self):
        arguments = [self.root / "bars", "--arch", "lenet", "--strategy", "scratch", "--epochs", 2, "--quiet"]
        one, two = self.root / "one.safetensors", self.root / "two.safetensors"
        run("finetune_images", *arguments, "--threads", 1, "--save", one)
        run("finetune_images", *arguments, "--threads", 2, "--save", two)
        self.assertEqual(one.read_bytes(), two.read_bytes())

    def test_recomputation_takes_less_memory_and_changes_nothing(self):
        arguments = [self.root / "bars", "--arch", "cifar_resnet20", "--strategy", "scratch", "--epochs", 1, "--quiet"]
        plain, recomputed = self.root / "plain.safetensors", self.root / "recomputed.safetensors"
        peak = last_json(run("finetune_images", *arguments, "--save", plain))["peak_bytes"]
        less = last_json(run("finetune_images", *arguments, "--recompute", "--save", recomputed))["peak_bytes"]
        self.assertEqual(plain.read_bytes(), recomputed.read_bytes())
        self.assertLess(less, 0.7 * peak)

    def test_options_that_cannot_be_meant_are_refused(self):
        bars = [self.root / "bars", "--weights", self.model, "--quiet"]
        for option, value in (("--lr", "nan"), ("--lr", "-1"), ("--lr", "fast"), ("--epochs", "99999999999999999999"), ("--epochs", "-1"),
                              ("--rank", 0), ("--rank", 10**9), ("--lora-alpha", "nan"), ("--adapter-width", 10**12),
                              ("--variants", 10**9), ("--alpha", 2), ("--alpha", "nan"), ("--mixup", "nan"), ("--cutmix", -1),
                              ("--layer-decay", "nan"), ("--backbone-factor", 1.5), ("--label-smoothing", "nan"), ("--average", "nan"),
                              ("--weight-decay", "inf"), ("--batch", 0), ("--size", 10**6), ("--val-fraction", 1), ("--threads", -1)):
            said = refusal(2, "finetune_images", *bars, option, value)
            self.assertRegex(said, f"{option}: expected a number (of at least|above|from) .*, got {value}")
            self.assertLess(len(said), 120)
        for option, value, words in (("--feature-cache", "floppy", "memory"), ("--regularizer", "l2_sp=inf", "NAME=STRENGTH"),
                                     ("--regularizer", "l3_sp", "expected one of l2_sp"), ("--strategy", "magic", "expected one of"),
                                     ("--rand-augment", "2,99", "magnitude below bins"), ("--regularizer", "distill", "needs a teacher")):
            self.assertIn(words, refusal(2, "finetune_images", *bars, option, value))
        self.assertIn("Nearest: conv1", refusal(2, "finetune_images", *bars, "--strategy", "lora", "--targets", "conv9"))
        self.assertIn("recompute_blocks: LeNet has 0 blocks", refusal(2, "finetune_images", *bars, "--recompute"))
        self.assertIn("--missing", refusal(2, "multitask_images", *bars, "--missing", "nan"))
        self.assertIn("--neighbours", refusal(2, "fashion", *bars, "--neighbours", 0))

    def test_results_that_cannot_be_kept_are_refused_before_training(self):
        bars = [self.root / "bars", "--weights", self.model, "--quiet"]
        for option, value, words in (("--save", self.root / "none" / "x", "there is no folder"), ("--save", self.root, "is a folder"),
                                     ("--save-adapters", self.root / "none" / "x", "there is no folder"),
                                     ("--checkpoint", self.root / "none" / "x", "there is no folder"),
                                     ("--report", self.model, "there is no folder"), ("--tensorboard", self.model, "there is no folder"),
                                     ("--report", self.model / "deeper", "there is no folder")):
            self.assertIn(words, refusal(2, "finetune_images", *bars, "--epochs", 10**6, option, value))
        for name in ("product_defects", "medical_images", "fashion"):
            self.assertIn("--report", refusal(2, name, *bars, "--report", self.model))
        full = pathlib.Path("/dev/full")
        if full.exists():
            self.assertIn("No space left", refusal(1, "finetune_images", *bars, "--epochs", 1, "--save", full))

    def test_folders_that_cannot_be_meant_are_refused(self):
        def folder(name, *classes):
            """A folder of a picture for each part/class, or an empty one for part/class/."""
            for i, path in enumerate(classes):
                (self.root / name / path).mkdir(parents=True)
                if not path.endswith("/"):
                    write_picture(self.root / name / path / "1.ppm", i % 2 == 0, i)
            return [self.root / name, "--weights", self.model, "--quiet", "--epochs", 1]

        for words, arguments in (("no class folders", folder("empty", ".")),
                                 ("no pictures in it", folder("no_pictures", "train/a/", "train/b/", "val/a/", "val/b/")),
                                 ("there is one class", folder("lonely", "train/a", "val/a")),
                                 ("no folder for the class b", folder("lacking", "train/a", "train/b", "val/a")),
                                 ("unknown classes c", folder("more", "train/a", "train/b", "val/a", "val/b", "val/c")),
                                 ('"b" has no training picture', folder("untaught", "train/a", "train/b/", "val/a", "val/b")),
                                 ("to validate with", folder("single", "a", "b"))):
            self.assertIn(words, refusal(2, "finetune_images", *arguments))
        run("finetune_images", *folder("unasked", "train/a", "train/b", "val/a", "val/b/"))  # an empty folder is a word

        for part in ("train", "val"):
            for name in ("a", "b"):
                path = self.root / "spoilt" / part / name / "1.ppm"
                path.parent.mkdir(parents=True)
                path.write_bytes(b"P6 32 32 255\nshort")
        for strategy in ("features", "finetune"):
            said = refusal(1, "finetune_images", self.root / "spoilt", "--weights", self.model, "--quiet", "--strategy", strategy)
            self.assertIn("no training picture could be read", said)
        self.assertIn("there is one class", refusal(2, "fashion", self.root / "lonely", "--weights", self.model, "--quiet"))
        self.assertIn("<style>/<object>/<picture>", refusal(2, "multitask_images", self.root / "single", "--weights", self.model))

    def test_spoilt_weights_are_refused(self):
        whole = self.model.read_bytes()
        header = json.loads(whole[8:8 + struct.unpack_from("<Q", whole)[0]])
        at = 8 + struct.unpack_from("<Q", whole)[0] + header["conv1.weight"]["data_offsets"][0]
        picture = next((self.root / "bars" / "val" / "lying").glob("*.ppm"))
        for name, content, words in (("cut", whole[:len(whole) // 2], "is the file complete"), ("tiny", whole[:5], "not a safetensors file"),
                                     ("none", b"", "not a safetensors file"),
                                     ("nan", whole[:at] + struct.pack("<f", float("nan")) + whole[at + 4:], "conv1.weight is not finite")):
            path = self.root / f"spoilt-{name}.safetensors"
            path.write_bytes(content)
            for strategy in ("features", "finetune", "lora"):
                said = refusal(1, "finetune_images", self.root / "bars", "--weights", path, "--quiet", "--strategy", strategy, "--epochs", 1)
                self.assertIn(words, said)
            done = run("predict_images", path, picture, expect=1)
            self.assertIn("the logits are not finite" if name == "nan" else words, done.stdout + done.stderr)

    def test_idx_files_that_lie_are_refused(self):
        pictures = [(bar(i % 2 == 0, i), i % 2) for i in range(20)]
        head = lambda *numbers: struct.pack(">" + "I" * len(numbers), *numbers)
        for name, file, change, words in (
                ("cut", "images-idx3", lambda b: b[:-100], "the file holds"),
                ("huge", "images-idx3", lambda b: head(0x803, *[0xffffffff] * 3) + b[16:], "more than the limit"),
                ("flat", "images-idx3", lambda b: head(0x803, 20, 0, 28), "a size of zero"),
                ("floats", "images-idx3", lambda b: b"\0\0\x0d" + b[3:], "unsigned bytes"),
                ("empty", "images-idx3", lambda b: b"", "ends too early"),
                ("few_labels", "labels-idx1", lambda b: head(0x801, 19) + b[8:-1], "a label for each of 20 pictures"),
                ("far_label", "labels-idx1", lambda b: b[:-1] + b"\xff", "has no training picture")):
            folder = self.root / f"idx_{name}"
            for part in ("train", "t10k"):
                write_idx(folder, part, pictures)
            path = folder / f"train-{file}-ubyte"
            path.write_bytes(change(path.read_bytes()))
            for program in ("fashion", "finetune_images"):
                self.assertIn(words, refusal(2 if name == "far_label" else 1, program, folder, "--weights", self.model, "--quiet"))

    def test_errors_are_one_line_and_have_their_exit_codes(self):
        for expect, arguments in ((1, ["finetune_images", self.root / "none", "--weights", self.model]),
                                  (2, ["finetune_images"]),
                                  (2, ["finetune_images", self.root / "bars", "--strategy", "magic", "--weights", self.model]),
                                  (2, ["finetune_images", self.root / "bars"]),
                                  (1, ["predict_images", self.root / "bars" / "train" / "lying" / "notes.txt", "x.png"]),
                                  (2, ["predict_images", "--nonsense"]),
                                  (1, ["inspect_weights", os.devnull])):
            done = run(arguments[0], *arguments[1:], expect=expect)
            self.assertTrue(done.stderr.startswith("error: "), done.stderr)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def test_every_program_has_help(self):
        for name in ("finetune_images", "predict_images", "inspect_weights", "compare_strategies", "recommend_images",
                     "product_defects", "medical_images", "fashion", "multitask_images", "02_train_from_scratch",
                     "03_load_pretrained", "04_feature_extraction", "05_finetune"):
            self.assertIn("--threads", run(name, "--help").stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
