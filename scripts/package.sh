#!/usr/bin/env bash
# Makes one archive of the installed program and every library it needs but the C library's own: unpacked anywhere on a
# Debian 12, or a later system, it runs with nothing else installed.
#
#   scripts/package.sh                     build/package/switchyard-VERSION-linux-ARCHITECTURE.tar.gz, of build/release
#   scripts/package.sh --build DIR --out DIR
#   scripts/package.sh --level 1           gzip's level: 1 is quick, 9 small; 6 otherwise
#
# The folder that was packed stays beside the archive. Needs patchelf (third_party/debian-dev.txt).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'package: %s\n' "$*"; }
fail() { printf 'package: %s\n' "$*" >&2; exit 1; }

build=build/release out=build/package level=6
while (($#)); do
  case "$1" in
    --build) build=$2; shift ;;
    --out) out=$2; shift ;;
    --level) level=$2; shift ;;
    -h|--help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown option '$1'; there are --build, --out and --level" ;;
  esac
  shift
done
command -v patchelf >/dev/null || fail "patchelf is missing: install what third_party/debian-dev.txt names"
[[ -x $build/switchyard ]] || fail "$build/switchyard is missing: build it first (README.md, Install)"

version=$("$build/switchyard" --version | sed -n '1s/^switchyard \([^ ]*\) .*/\1/p')
name=switchyard-$version-linux-$(uname -m)
folder=$out/$name
libraries=$folder/lib/switchyard
licenses=$folder/share/doc/switchyard/licenses
rm -rf "$folder" "$folder.tar.gz"
cmake --install "$build" --prefix "$folder" --strip >"$build/package.log" ||
  fail "cmake --install failed: $build/package.log says why"
mkdir -p "$libraries" "$licenses"

# What the loader finds for the program, without the C library: that one must be the system's.
needed() {
  ldd "$build/switchyard" | sed -n 's/^\t\([^ ]*\) => \(\/[^ ]*\) .*/\1 \2/p' |
    grep -vE '^(libc|libm|libdl|librt|libpthread|libutil|libresolv|ld-linux[^ ]*)\.so'
}

# The terms of a library: those that its Debian package or its wheel comes with.
copy_license() {  # $1: the library's file
  local package
  if package=$(dpkg-query -S "$(readlink -f "$1")" 2>/dev/null || dpkg-query -S "$1" 2>/dev/null); then
    package=${package%%:*}
    cp -L "/usr/share/doc/$package/copyright" "$licenses/$package" 2>/dev/null || true
  fi
}

while read -r soname path; do
  cp -L "$path" "$libraries/$soname"
  chmod u+w "$libraries/$soname"
  case "$path" in
    */site-packages/*) ;;
    *) patchelf --set-rpath '$ORIGIN' "$libraries/$soname"; copy_license "$path" ;;
  esac
done < <(needed)
torch=$(ldd "$build/switchyard" | sed -n 's/.*libtorch_cpu\.so => \(.*\)\/torch\/lib\/.*/\1/p')
for file in "$torch"/{torch,nvidia_}*.dist-info/licenses/*; do
  if [[ -f $file ]]; then
    wheel=${file#"$torch"/}
    cp "$file" "$licenses/${wheel%%-*}"
  fi
done
# Nothing of this machine's folders stays in the program.
patchelf --set-rpath '$ORIGIN/../lib/switchyard' "$folder/bin/switchyard"

missing=$(env -i "$(command -v ldd)" "$folder/bin/switchyard" | grep 'not found' || true)
[[ -z $missing ]] || fail "libraries are missing in the package: $missing"
# The same files give the same archive: names in order, no owner, one time.
tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -cf - "$name" |
  gzip -n "-$level" >"$folder.tar.gz"
size() { du -sb "$1" | cut -f1 | numfmt --to=iec-i --suffix=B; }
say "$folder.tar.gz: $(size "$folder.tar.gz"), $(size "$folder") unpacked"
