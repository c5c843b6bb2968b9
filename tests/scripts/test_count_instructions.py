"""scripts/count_instructions.py: reading what callgrind counted, comparing it with what was recorded."""

import json
import unittest

import support

import count_instructions
from count_instructions import Counts, Run


def counts(values: dict[str, float], compiler: str = "12.2.0") -> Counts:
    """Of the AVX2 variants."""
    return Counts("avx2", compiler, values)


class Reading(unittest.TestCase):
    def test_total_is_that_of_the_last_line(self) -> None:
        profile = "events: Ir\nsummary: 5\n\nfn=(1) totals\n3 4\ntotals: 131045\n"
        self.assertEqual(count_instructions.total_instructions(profile), 131045)

    def test_names_what_is_missing(self) -> None:
        with self.assertRaisesRegex(ValueError, "no line 'totals: '"):
            count_instructions.total_instructions("events: Ir\n")

    def test_difference_is_free_of_start_up(self) -> None:
        once, twice = (Run(1000 + 300 * n, 64 * n, "avx2", "12.2.0") for n in (8, 16))
        self.assertEqual(count_instructions.per_element(once, twice), 4.688)


class Comparing(unittest.TestCase):
    def test_marks_what_is_over_the_tolerance_either_way(self) -> None:
        recorded = {"a/float": 1.0, "a/bf16": 1.0, "b/float": 1.0, "b/bf16": 1.0}
        counted = {"a/float": 1.029, "a/bf16": 1.031, "b/float": 0.971, "b/bf16": 0.9}
        self.assertEqual(count_instructions.marks(counted, recorded), {"a/bf16": "+3.1 %", "b/bf16": "-10.0 %"})

    def test_marks_kernels_that_came_and_went(self) -> None:
        found = count_instructions.marks({"a/float": 1.0}, {"b/float": 1.0})
        self.assertEqual(found, {"a/float": "new", "b/float": "gone"})

    def test_table_has_types_as_columns(self) -> None:
        listing = "a/float\tlogit\na/bf16\tlogit\nb/float\tscore\nb/bf16\tscore\n"
        elements = count_instructions.elements_by_kernel(listing)
        counted = {"a/float": 1.0, "a/bf16": 2.5, "b/float": 0.12345}
        rows = count_instructions.table(elements, counted, {"a/bf16": "+3.1 %", "c/float": "gone"}).splitlines()
        cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
        self.assertEqual(cells[0], ["kernel", "per", "float", "bf16"])
        self.assertEqual(cells[2:], [["`a`", "logit", "1.00", "2.50 (+3.1 %)"], ["`b`", "score", "0.12", "-"]])

    def test_notes_name_another_compiler_and_every_mark(self) -> None:
        counted, recorded = counts({"a/float": 2.0}, compiler="13.1.0"), counts({"a/float": 1.0})
        found = count_instructions.notes(counted, recorded, {"a/float": "+100.0 %"})
        self.assertEqual(found[0], "compiler is 13.1.0, the recorded counts are of 12.2.0")
        self.assertEqual(found[1:], ["a/float: +100.0 % (counted 2.0, recorded 1.0)"])
        self.assertEqual(count_instructions.notes(recorded, recorded, {}), [])


class Recorded(unittest.TestCase):
    def test_page_has_the_recorded_counts(self) -> None:
        recorded = Counts(**json.loads(count_instructions.RECORD.read_text(encoding="utf-8")))
        page = (support.REPOSITORY / "docs" / "speed.md").read_text(encoding="utf-8")
        for name, value in recorded.instructions_per_element.items():
            row = next(line for line in page.splitlines() if line.startswith(f"| `{name.split('/')[0]}`"))
            column = count_instructions.TYPES.index(name.split("/")[1])
            self.assertEqual(row.split("|")[3 + column].strip(), f"{value:.2f}", name)


if __name__ == "__main__":
    unittest.main()
