"""What the tests of scripts share: the scripts' folder on the path, and made-up runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "scripts"
sys.path.insert(0, str(SCRIPTS))

TOKENS_PER_STEP = 100


def train(step: int, loss: float) -> dict[str, Any]:
    """A train event."""
    return {"event": "train", "step": step, "tokens": step * TOKENS_PER_STEP, "loss": loss, "lm_loss": loss}


def evaluation(step: int, loss: float | None, **domains: float) -> dict[str, Any]:
    """An eval event."""
    by_domain = {name: {"val_loss": value, "perplexity": 1.0} for name, value in domains.items()}
    return {"event": "eval", "step": step, "val_loss": loss, "perplexity": 1.0, "domains": by_domain}


def routing(step: int, layer: int, load: list[float], **values: float) -> dict[str, Any]:
    """A routing event."""
    return {"event": "routing", "step": step, "layer": layer, "load": load, **values}


def write_metrics(folder: Path, events: list[dict[str, Any]]) -> None:
    """A run folder that holds these events."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")


# A program with the command line of switchyard that trains nothing: its loss is 4 / seed at half time and 2 / seed at
# the end (half of that for a MoE), and each start adds a line to calls.txt. With fail=1 it saves, and fails.
FAKE_PROGRAM = f'''#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls.txt").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "inspect":
    print(json.dumps({{"active_parameters": 1000 if "dense" in sys.argv[2] else 1020, "total_parameters": 3e6,
                      "forward_flops_per_token": 4e6 if "costly" in sys.argv[2] else 2e6}}))
    sys.exit()
if sys.argv[1] == "bench":
    print(json.dumps({{"tokens_per_second": 1234.4}}))
    sys.exit()
if sys.argv[2] == "--resume":
    folder = pathlib.Path(sys.argv[3])
    values = json.loads((folder / "values.json").read_text())
else:
    values = dict(word.split("=") for word in sys.argv[3:])
    values["config"] = sys.argv[2]
    folder = pathlib.Path(values["run.dir"])
    folder.mkdir(parents=True)
    (folder / "values.json").write_text(json.dumps(values))
    if values.get("fail") == "1":
        (folder / "checkpoints" / "step-00000001").mkdir(parents=True)
        print("out of luck")
        sys.exit(1)
steps, seed = int(values["training.max_steps"]), int(values["run.seed"])
gain = 1 if "dense" in values["config"] else 2
off = values.get("moe.aux_loss_coeff") == "0"
(folder / "log.txt").write_text("looks at later tokens" if "ahead" in values["config"] else "")
with (folder / "metrics.jsonl").open("w") as out:
    for step, loss in ((steps // 2, 4 / seed / gain), (steps, 2 / seed / gain)):
        domain = "pictures" if "pictures" in values["config"] else "books"
        weight = float(values.get("moe.router.importance_coeff", 0))
        lines = [dict(event="train", step=step, tokens=step * 100, loss=loss, importance_loss=1.25 if weight else 10.0,
                      load_loss=1.0 + weight),
                 dict(event="eval", step=step, val_loss=loss, perplexity=7.5,
                      domains={{domain: dict(val_loss=loss + 1, perplexity=8.5)}})]
        if gain == 2:
            lines += [dict(event="routing", step=step, layer=layer, load=[0.5, 0.5], max_violation=3.0 if off else 0.25,
                           entropy=0.5 if off else 1.0, dropped_fraction=layer / 4, experts_per_token=2.0,
                           dead_experts=layer) for layer in (0, 1)]
        out.writelines(json.dumps(line) + "\\n" for line in lines)
'''


def write_program(folder: Path) -> Path:
    """The made-up program, executable, in `folder`."""
    path = folder / "switchyard"
    path.write_text(FAKE_PROGRAM, encoding="utf-8")
    path.chmod(0o755)
    return path
