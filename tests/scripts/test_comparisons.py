"""The comparison scripts, as commands, on a made-up program whose losses are known."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import support


class Comparisons(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        self.program = support.write_program(self.folder)

    def run_script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        common = ["--binary", str(self.program), "--steps", "10", "--out", str(self.folder / "out")]
        command = [sys.executable, str(support.SCRIPTS / name), *common, *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def rows(self, output: str) -> list[list[str]]:
        lines = [line for line in output.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]

    def test_dense_against_moe(self) -> None:
        done = self.run_script(
            "compare_dense_moe.py", "--dense", "dense.yaml", "--moe", "moe.yaml", "--seeds", "1,2", "optimizer.lr=0.1"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.startswith("Active parameters: dense 1,000, MoE 1,020.\n"), done.stdout)
        rows = self.rows(done.stdout)
        self.assertIn(["seed 1", "2.0000", "1.0000", "-1.0000"], rows)
        self.assertIn(["seed 2", "1.0000", "0.5000", "-0.5000"], rows)
        self.assertIn(["mean ± standard deviation", "1.5000 ± 0.7071", "0.7500 ± 0.3536", "-0.7500 ± 0.3536"], rows)
        self.assertIn(["domain books", "2.5000 ± 0.7071", "1.7500 ± 0.3536", "-0.7500 ± 0.3536"], rows)
        self.assertIn(["seed 2", "1,000", "500", "2.00"], rows)
        self.assertIn(["mean", "", "", "2.00"], rows)
        self.assertIn("optimizer.lr=0.1", (self.folder / "calls.txt").read_text())

    def test_a_moe_that_never_gets_there(self) -> None:
        done = self.run_script("compare_dense_moe.py", "--dense", "moe.yaml", "--moe", "dense.yaml", "--seeds", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(["seed 1", "1,000", "not reached", ""], self.rows(done.stdout))

    def test_balancing(self) -> None:
        done = self.run_script("compare_balancing.py", "--config", "moe.yaml")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = self.rows(done.stdout)
        self.assertIn(["layer 1", "3.000", "0.250", "0.500", "1.000"], rows)
        self.assertIn(["mean", "3.000", "0.250", "0.500", "1.000"], rows)
        self.assertIn(["final validation loss", "1.0000", "1.0000"], rows)
        calls = (self.folder / "calls.txt").read_text()
        self.assertIn("moe.aux_loss_coeff=0 moe.z_loss_coeff=0", calls)
        self.assertIn("moe.aux_loss_coeff=0.01", calls)

    def test_balancing_of_a_dense_model_is_an_error(self) -> None:
        done = self.run_script("compare_balancing.py", "--config", "dense.yaml")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no routing events", done.stderr)

    def compare_routers(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        presets = [f"{name}-tiny.yaml" for name in ("dense", "even", "ahead", "pictures")]
        return self.run_script("compare_routers.py", "--seeds", "1,2", *arguments, "--presets", *presets)

    def test_routers(self) -> None:
        done = self.compare_routers()
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = self.rows(done.stdout)
        ranking = [row[0] for row in rows if "3.00 M" in row]
        self.assertEqual(ranking, ["even", "dense", "ahead (*)", "pictures (**)"])
        self.assertIn(["even", "3.00 M", "2", "0.7500 ± 0.3536", "8.50 ± 0.00", "-"], rows)
        self.assertIn(["even", "0.25 ± 0.00", "1.000 ± 0.000", "0.125 ± 0.000", "2.00 ± 0.00", "1.0 ± 0.0"], rows)
        self.assertNotIn("dense", [row[0] for row in rows if len(row) == 6 and row[1].startswith("0.25")])
        self.assertIn("Forward 2.00 to 2.00 MFLOP a token; 1,000 tokens a run.\n", done.stdout)
        self.assertIn("(*) looks at later tokens: not ranked", done.stdout)
        self.assertIn("(**) other data: not ranked", done.stdout)
        table = (self.folder / "out" / "routers.csv").read_text().splitlines()
        self.assertEqual(len(table), 1 + 8)
        self.assertIn("schedule.warmup_steps=1\n", (self.folder / "calls.txt").read_text())

    def test_routers_resumes_and_tabulates_a_part(self) -> None:
        first = self.compare_routers("--seeds", "1")
        self.assertEqual(first.returncode, 0, first.stderr)
        part = self.compare_routers("--finished", "--bench", "2")
        self.assertEqual(part.returncode, 0, part.stderr)
        self.assertIn(["even", "3.00 M", "1", "1.0000", "8.50", "-", "1,234"], self.rows(part.stdout))
        self.assertEqual(self.compare_routers().returncode, 0)
        trained = [line for line in (self.folder / "calls.txt").read_text().splitlines() if line.startswith("train")]
        self.assertEqual(len(trained), 8)

    def test_routers_says_what_is_not_equal(self) -> None:
        done = self.run_script("compare_routers.py", "--seeds", "1", "--presets", "dense.yaml", "costly.yaml")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("**FLOP a token differ by more than 5%.**", done.stdout)

    def test_the_answer_on_a_page(self) -> None:
        page = self.folder / "page.md"
        page.write_text("before\n<!-- made by scripts/compare_routers.py -->\nold\n<!-- end -->\nafter <!-- end -->\n")
        done = self.compare_routers("--seeds", "1", "--write", str(page))
        self.assertEqual(done.returncode, 0, done.stderr)
        made = f"<!-- made by scripts/compare_routers.py -->\n{done.stdout}<!-- end -->"
        self.assertEqual(page.read_text(), f"before\n{made}\nafter <!-- end -->\n")
        page.write_text("no such place\n")
        done = self.compare_routers("--seeds", "1", "--write", str(page))
        self.assertEqual(done.returncode, 1)
        self.assertIn("has no place that says <!-- made by scripts/compare_routers.py -->", done.stderr)
        self.assertEqual(page.read_text(), "no such place\n")

    def test_importance(self) -> None:
        done = self.run_script("compare_importance.py", "--config", "moe.yaml", "schedule.warmup_steps=3")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = self.rows(done.stdout)
        self.assertIn(["0", "0", "7.50", "3.00", "0.00", "1.25", "39.8", "3.04", "3.01", "17.80"], rows)
        self.assertIn(["0.01", "0", "7.50", "0.50", "0.10", "1.25", "-", "-", "-", "-"], rows)
        calls = (self.folder / "calls.txt").read_text()
        self.assertIn("moe.router.importance_coeff=0.1 moe.router.load_coeff=0.1 schedule.warmup_steps=3", calls)

    def test_routers_without_a_finished_run_is_an_error(self) -> None:
        done = self.compare_routers("--finished")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is finished", done.stderr)


if __name__ == "__main__":
    unittest.main()
