#!/usr/bin/env bash
# Gives made-up bytes to every parser of foreign ones, with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
# The targets are in tests/fuzz. Says so, and succeeds, where clang or its libFuzzer is missing.
#
#   scripts/fuzz.sh                             20,000 inputs for every target
#   scripts/fuzz.sh --seconds 15                as many as are tried in 15 seconds, at most 20,000
#   scripts/fuzz.sh --runs 1000000 json yaml    as many for these targets
#
# Inputs that reach new code are kept in build/fuzz/corpus, those that break something in build/fuzz/found. One input
# again: FUZZ_TARGET=json build/fuzz/fuzz FILE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'fuzz: %s\n' "$*" >&2; exit 2; }

runs=20000 seconds=0 targets=()
while (($#)); do
  case "$1" in
    --runs) runs=${2:-}; shift $(($# > 1 ? 2 : 1)) ;;
    --seconds) seconds=${2:-}; shift $(($# > 1 ? 2 : 1)) ;;
    -h|--help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "unknown option '$1'; there are --runs and --seconds" ;;
    *) targets+=("$1"); shift ;;
  esac
done
[[ $runs =~ ^[0-9]+$ && $seconds =~ ^[0-9]+$ ]] || fail "--runs and --seconds need numbers, found '$runs' and '$seconds'"

if ! clang++ -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null \
  <<<'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'; then
  echo "fuzz: skipped: there is no clang++ with libFuzzer (third_party/debian-dev.txt)"
  exit 0
fi
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz

# Some parsers read files: in memory, since they flush what they write.
memory=/dev/shm
[[ -w $memory ]] || memory=${TMPDIR:-/tmp}
export TMPDIR runs seconds ASAN_OPTIONS=malloc_context_size=5  # of 30 frames a quarter of the time goes away
TMPDIR=$(mktemp -d -p "$memory")
trap 'rm -rf "$TMPDIR"' EXIT
rm -rf build/fuzz/seeds
FUZZ_SEEDS=build/fuzz/seeds build/fuzz/fuzz
((${#targets[@]})) || mapfile -t targets < <(ls build/fuzz/seeds)

fuzz_one() {  # the target
  local corpus=build/fuzz/corpus/$1 log=build/fuzz/$1.log
  mkdir -p "$corpus" build/fuzz/found
  if FUZZ_TARGET=$1 build/fuzz/fuzz -runs="$runs" -max_total_time="$seconds" -seed=1 -timeout=30 -rss_limit_mb=2048 \
    -detect_leaks=0 -print_final_stats=1 -artifact_prefix="build/fuzz/found/$1-" \
    "$corpus" "build/fuzz/seeds/$1" >"$log" 2>&1; then
    printf 'fuzz: %-14s %s inputs, nothing found\n' "$1" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  else
    tail -n 60 "$log"
    printf 'fuzz: %s failed; what it printed is in %s\n' "$1" "$log"
    return 1
  fi
}
export -f fuzz_one
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz_one {}'
