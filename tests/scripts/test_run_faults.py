"""scripts/run_faults.py: its list names tests that there are; what it makes of their output."""

import re
import unittest

import support

import run_faults

TESTS = [test for faults in run_faults.FAULTS.values() for tests in faults.values() for test in tests.split()]


class Names(unittest.TestCase):
    def there_is(self, test: str) -> bool:
        if ":" in test:
            folder, _, name = test.partition(":")
            suite, _, case = name.partition(".")
            places = [support.REPOSITORY / "tests" / folder, support.REPOSITORY / "tests/integration"]
            text = "".join(path.read_text() for place in places for path in place.glob("*.cpp"))
            pattern = rf"^TEST(_F|_P)?\({suite}, " + ("" if case == "*" else rf"{case}\)")
            return re.search(pattern, text, re.MULTILINE) is not None
        file, group, *method = test.split(".")
        text = (support.REPOSITORY / "tests/program" / f"{file}_test.py").read_text()
        found = re.search(rf"^class {group}\(.*?(?=^class |\Z)", text, re.MULTILINE | re.DOTALL)
        return found is not None and (not method or f"    def {method[0]}(self" in found.group())

    def test_every_test_is_there(self) -> None:
        self.assertEqual([test for test in TESTS if not self.there_is(test)], [])

    def test_others_are_not(self) -> None:
        for test in ("base:Json.Nothing", "base:Nothing.*", "resume.Damage.test_nothing", "resume.Nothing"):
            self.assertFalse(self.there_is(test), test)


class Results(unittest.TestCase):
    def test_what_ran(self) -> None:
        self.assertEqual(run_faults.result_of(0, "..\nRan 2 tests in 0.1s\n\nOK"), (2, 0))
        self.assertEqual(run_faults.result_of(0, "s.\nRan 2 tests in 0.1s\n\nOK (skipped=1)"), (1, 0))
        self.assertEqual(run_faults.result_of(1, "F\nRan 1 test in 0.1s\n\nFAILED (failures=1)"), (1, 1))
        gtest = "[==========] Running 3 tests from 1 suite.\n[==========] 3 tests from 1 suite ran. (9 ms total)\n"
        self.assertEqual(run_faults.result_of(0, gtest), (3, 0))
        self.assertEqual(run_faults.result_of(0, gtest + "[  SKIPPED ] 3 tests, listed below:\n"), (0, 0))

    def test_no_test_is_a_failure(self) -> None:
        self.assertEqual(run_faults.result_of(0, "[==========] 0 tests from 0 suites ran. (0 ms total)"), (0, 1))
        self.assertEqual(run_faults.result_of(0, ""), (0, 1))

    def test_one_command_a_file(self) -> None:
        groups = run_faults.by_file(["a.B", "base:C.*", "a.D", "base:E.F"])
        self.assertEqual(groups, [["a.B", "a.D"], ["base:C.*", "base:E.F"]])
        command, name = run_faults.command_of(groups[1], run_faults.REPOSITORY)
        self.assertEqual((command[1:], name), (["--gtest_filter=C.*:*/C.*:E.F:*/E.F/*"], "test_base"))


if __name__ == "__main__":
    unittest.main()
