#!/usr/bin/env bash
# From a fresh clone to a small trained mixture-of-experts model: installs what is missing, builds, prepares a corpus
# of C++, Python and English, trains (configs/quickstart.yaml), then shows the curves, what the router did, and a sample.
#
#   scripts/quickstart.sh [key=value ...]     overrides go to the training, for instance training.max_steps=50
#
# Run again, it goes on where it was stopped, or shows the finished run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit 0
fi

run=runs/quickstart
switchyard=build/release/switchyard

scripts/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release --target switchyard

if [[ -f $run/config.yaml ]]; then
  "$switchyard" train --resume "$run" "$@"
else
  "$switchyard" train configs/quickstart.yaml run.dir=$run "$@"
fi

printf '\n'
"$switchyard" report "$run" --plot
printf '\nA sample:\n\n'
"$switchyard" generate "$run" --prompt "def main(" --max-new-tokens 60 --temperature 0.7 --top-p 0.9 --seed 1
cat <<EOF

Next:
  open $run/report.html                        curves, and the load of every expert over time
  $switchyard generate $run --prompt "Mixture of" --max-new-tokens 60
  $switchyard eval $run
  tensorboard --logdir runs                     the same curves; how to get it: docs/metrics.md
  edit configs/quickstart.yaml, then: $switchyard train configs/quickstart.yaml run.dir=runs/mine
EOF
