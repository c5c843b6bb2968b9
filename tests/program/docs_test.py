"""The pages hold: scripts/check_docs.py finds nothing wrong with them, and would."""

import subprocess
import sys
import unittest
from pathlib import Path

from support import BINARY, ProgramTest

CHECK = Path(__file__).parents[2] / "scripts" / "check_docs.py"

WRONG = """# A page

See [there](#nowhere) and [a file](none.md), `src/base/none.h` and `moe.aux_loss_coef`, `--jsn`, `switchyard evl RUN`,
`switchyard eval RUN --jsn` and `switchyard eval RUN eval.batch=0`.

```sh
switchyard inspect demo.yaml moe.top_k=9     # refused
scripts/plot.py loss runs/demo --colour red
make all
```

<!-- output of: switchyard config demo.yaml -->
```
seed: 2
```

```yaml
model: {n_layer: 3}
```
"""
FAULTS = {
    3: ["no heading #nowhere", "none.md leads nowhere", "no file src/base/none.h", "no key moe.aux_loss_coef",
        "has the option --jsn", "no command evl"],
    4: ["eval has no option --jsn", "no key eval.batch"],
    7: ["ends with 2"],
    8: ["plot.py has no option --colour"],
    9: ["'make' is neither run nor"],
    14: ["does not print this line"],
    18: ["the program refuses this", "did you mean 'model.num_layers'"],
}  # fmt: skip

RIGHT = """# A page

See [here](#a-page), `--json`, `moe.aux_loss_coeff=0.1` and `data.sources[].weight`.

    switchyard train demo.yaml moe.aux_loss_coeff=0.001

```sh
switchyard eval runs/demo --json             # of the run above
switchyard train --resume runs/demo && switchyard report runs/demo runs/other \\
    --out both.html
```

<!-- not run: would take an hour -->
```sh
switchyard train demo.yaml run.dir=none/such/place --from nowhere
```
"""


class Docs(ProgramTest):
    def check(self, *pages, expect):
        command = [sys.executable, "-B", CHECK, "--binary", BINARY, *pages]
        done = subprocess.run(command, cwd=self.folder, check=False, capture_output=True, text=True)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout

    def test_of_this_project(self):
        self.check(expect=0)

    def test_what_is_wrong_is_named(self):
        (self.folder / "page.md").write_text(WRONG)
        told = self.check("page.md", expect=1)
        for line, faults in FAULTS.items():
            for fault in faults:
                self.assertRegex(told, rf"page\.md:{line}: .*(\n  .*)*{fault}")
        self.assertIn(f"{sum(len(faults) for faults in FAULTS.values()) - 1} faults", told)

    def test_what_is_right_is_not(self):
        (self.folder / "page.md").write_text(RIGHT)
        self.assertIn("1 pages, 4 commands and blocks run, 0 faults", self.check("page.md", expect=0))


if __name__ == "__main__":
    unittest.main()
