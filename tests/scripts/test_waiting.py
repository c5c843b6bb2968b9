"""scripts/bench_waiting.py: what is run, what counts as other processes' time, and the table."""

import os
import unittest
from pathlib import Path
from unittest import mock

import support  # noqa: F401, makes scripts/ importable
import bench_waiting
from bench_waiting import OWN, SITUATIONS, Sample


class Variants(unittest.TestCase):
    def test_only_what_is_asked_for_tells_threads_how_to_wait(self) -> None:
        here = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "7", "HOME": "/here"}
        with mock.patch.dict(os.environ, here, clear=True):
            found = bench_waiting.variants(Path("new"), ["GOMP_SPINCOUNT=5"], ["before=old"])
        self.assertEqual(found[OWN], bench_waiting.Variant(Path("new"), {"HOME": "/here"}))
        self.assertEqual(found["GOMP_SPINCOUNT=5"].environment, {"HOME": "/here", "GOMP_SPINCOUNT": "5"})
        self.assertEqual(found["before"], bench_waiting.Variant(Path("old"), {"HOME": "/here"}))


class Others(unittest.TestCase):
    def test_idle_time_is_not_busy(self) -> None:
        # user, nice, system, idle, iowait, irq, softirq, steal
        self.assertEqual(bench_waiting.busy_seconds("cpu  100 20 30 9000 800 4 6 7", 10), 16.0)

    def test_counts_what_was_not_measured(self) -> None:
        with (
            mock.patch.object(bench_waiting, "busy_here", side_effect=[10.0, 16.0]),
            mock.patch.object(bench_waiting, "busy_of_children", side_effect=[1.0, 4.0]),
        ):
            sample = bench_waiting.measured(lambda: [(100.0, 2.0), (90.0, 1.5)])
        self.assertEqual(sample, Sample([100.0, 90.0], 1.5))


class Table(unittest.TestCase):
    def test_ratios_are_to_the_program_alone(self) -> None:
        samples = {}
        for name, rates in {OWN: (2000, 1200, 1000), "other": (2040, 300, 200)}.items():
            for situation, rate in zip(SITUATIONS, rates):
                samples[name, situation] = [Sample([rate - 1.0, rate + 1.0], 0.0), Sample([float(rate)], 0.2)]
        lines = bench_waiting.table(samples).splitlines()
        cells = [cell.strip() for cell in lines[2].split("|")]
        self.assertEqual(cells[2:5], ["2,000 / 1.00", "1,200 / 0.60", "1,000 / 0.50"])
        self.assertIn("300 / 0.15", lines[3])
        self.assertEqual(bench_waiting.disturbed(samples), 6)


if __name__ == "__main__":
    unittest.main()
