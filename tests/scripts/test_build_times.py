"""scripts/build_times.py: reading Ninja's log, sums by folder."""

import unittest

import support  # noqa: F401  (finds scripts/)

import build_times

LOG = """# ninja log v5
0\t2000\t1\tCMakeFiles/switchyard_model.dir/Unity/unity_0_cxx.cxx.o\tab
0\t500\t1\tCMakeFiles/test_model.dir/tests/model/norm_test.cpp.o\tab
2000\t3000\t1\tCMakeFiles/switchyard_model.dir/src/model/norm.cpp.o\tab
3000\t3250\t1\tlibswitchyard_model.a\tab
0\t1500\t2\tCMakeFiles/switchyard_model.dir/Unity/unity_0_cxx.cxx.o\tab
"""


class Log(unittest.TestCase):
    def test_the_last_build_of_a_file_counts(self) -> None:
        rows = build_times.by_folder(build_times.read_log(LOG))
        self.assertEqual(rows, [("model", 2, 2.5), ("test_model", 1, 0.5), ("linking and others", 1, 0.25)])

    def test_table_ends_in_the_sum_and_names_the_slowest(self) -> None:
        lines = build_times.table(build_times.read_log(LOG), 1).splitlines()
        self.assertEqual(lines[4].split(), ["all", "4", "3.2"])
        self.assertEqual(lines[-1].split(), ["model/Unity/unity_0_cxx.cxx", "1.5"])

    def test_another_file_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "ninja log"):
            build_times.read_log("hello\n")
        with self.assertRaisesRegex(ValueError, "line 2 is no entry"):
            build_times.read_log("# ninja log v5\nx\t1\t2\ta\tb\n")


if __name__ == "__main__":
    unittest.main()
