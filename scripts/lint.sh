#!/usr/bin/env bash
# Looks at the source without building it: format (clang-format), the order of the folders (check_layout.py), likely
# mistakes (clang-tidy, on the folders that do without LibTorch; the others take a minute a file).
#
#   scripts/lint.sh            a tool that is missing is named and its part skipped; installs nothing
#   scripts/lint.sh --strict   a missing tool is an error, as in CI
#   scripts/lint.sh --fix      lets clang-format rewrite what it would complain about
#
# The tools are in third_party/debian-dev.txt. clang-tidy reads how files are compiled from build/lint, which is made by
# configuring the preset `lint` (nothing is built).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

strict=false fix=false failed=()
for argument in "$@"; do
  case "$argument" in
    --strict) strict=true ;;
    --fix) fix=true ;;
    -h|--help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) printf "lint: unknown option '%s'; there are --strict and --fix\n" "$argument" >&2; exit 2 ;;
  esac
done

skip() {  # $1: part, $2: what is missing
  printf 'lint: notice: %s skipped: %s\n' "$1" "$2"
  if $strict; then failed+=("$1"); fi
}

# Debian's versioned name first: another release formats differently.
tool() { command -v "$1-14" || command -v "$1" || true; }

check_format() {
  local clang_format mode=(--dry-run -Werror)
  clang_format=$(tool clang-format)
  [[ -n $clang_format ]] || { skip format "no clang-format (third_party/debian-dev.txt)"; return; }
  if $fix; then mode=(-i); fi
  find src tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort |
    xargs -r "$clang_format" "${mode[@]}" || failed+=(format)
}

check_shell() {
  local script
  for script in scripts/*.sh; do bash -n "$script" || failed+=("$script"); done
}

check_tidy() {
  local clang_tidy database=build/lint/compile_commands.json
  clang_tidy=$(tool clang-tidy)
  [[ -n $clang_tidy ]] || { skip clang-tidy "no clang-tidy (third_party/debian-dev.txt)"; return; }
  cmake --preset lint >/dev/null 2>&1 || true
  [[ -f $database ]] || { skip clang-tidy "the preset lint can't be configured (scripts/setup.sh)"; return; }
  # GCC's own warnings are the build's business; clang is not to stumble over an option that it does not know.
  find src/base src/config src/data src/metrics src/ablate -name '*.cpp' | sort |
    xargs -r -P "$(nproc)" -n 1 "$clang_tidy" -p build/lint --quiet --extra-arg=-Wno-unknown-warning-option ||
    failed+=(clang-tidy)
}

check_format
check_shell
python3 scripts/check_layout.py --self-test || failed+=(check_layout-self-test)
python3 scripts/check_layout.py || failed+=(layout)
check_tidy
if ((${#failed[@]})); then
  printf 'lint: failed: %s\n' "${failed[*]}" >&2
  exit 1
fi
echo "lint: clean"
