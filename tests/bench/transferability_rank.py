"""The rank correlations of bench/transferability_rank.py, and the script on stand-ins for the programs that it runs.
Usage: transferability_rank.py SOURCE_FOLDER"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(".")
sys.path.insert(0, str(SOURCE / "bench"))
import transferability_rank as script

SCORER = """#!/usr/bin/env python3
import json, sys
files = sys.argv[sys.argv.index("--weights") + 1:]
scores = {"a": 3, "b": 2, "c": 1}
print(json.dumps({"train_images": 9, "candidates": [
    {"weights": f, "arch": "x", "log_me": scores[f], "shrunk_h_score": -scores[f], "trans_rate": 1, "leep": None, "nce": None,
     "above_chance": 9} for f in files]}))
"""
TRAINER = """#!/usr/bin/env python3
import json, pathlib, sys
log = pathlib.Path(sys.argv[0]).parent / "runs"
log.write_text(log.read_text() + "run " if log.exists() else "run ")
print(json.dumps({"val_accuracy": {"a": 0.9, "b": 0.8, "c": 0.7}[sys.argv[sys.argv.index("--weights") + 1]]}))
"""


class Ranks(unittest.TestCase):
    def test_correlations_of_short_lists(self):
        self.assertEqual(script.kendall([1, 2, 3], [10, 20, 30]), 1)
        self.assertEqual(script.kendall([1, 2, 3], [30, 20, 10]), -1)
        self.assertEqual(script.ranks([5, 1, 5, 2]), [3.5, 1, 3.5, 2])
        self.assertAlmostEqual(script.spearman([1, 2, 3, 4], [1, 3, 2, 4]), 0.8)
        # 15 pairs, one tie on either side: 11 agree, 2 do not
        self.assertAlmostEqual(script.kendall([1, 2, 3, 4, 5, 5], [2, 1, 3, 5, 4, 5]), 9 / 14)
        self.assertIsNone(script.kendall([1, 1, 1], [1, 2, 3]))
        self.assertIsNone(script.spearman([1, 2, 3], [4, 4, 4]))

    def test_a_run_ranks_and_goes_on_where_it_stopped(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for name, text in (("recommend_images", SCORER), ("finetune_images", TRAINER)):
                (folder / name).write_text(text)
                (folder / name).chmod(0o755)
            command = [sys.executable, SOURCE / "bench" / "transferability_rank.py", folder, "--data", "some=pictures", "--json",
                       folder / "out.json", "--strategies", "features", "--weights"]
            subprocess.run([*command, "a", "b", "c"], check=True, stdout=subprocess.PIPE)
            done = subprocess.run([*command, "a", "b", "c"], check=True, stdout=subprocess.PIPE, text=True)
            self.assertEqual((folder / "runs").read_text(), "run run run ")
            self.assertIn("Kendall", done.stdout)
            found = {c["score"]: c for c in json.loads((folder / "out.json").read_text())["correlations"]}
            self.assertEqual((found["log_me"]["kendall"], found["log_me"]["pairs"]), (1, 3))
            self.assertEqual(found["shrunk_h_score"]["kendall"], -1)
            self.assertIsNone(found["trans_rate"]["kendall"])
            self.assertNotIn("leep", found)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
