#!/usr/bin/env bash
# Unpacks an archive of scripts/package.sh into a bare root and uses it there: version, presets, a short training that
# extends a preset, resuming, a generated text.
#
#   scripts/check_package.sh ARCHIVE            a root that holds the C library and nothing else, not even a shell
#   scripts/check_package.sh ARCHIVE --debian   a Debian 12 of essential packages alone (debootstrap, from its mirror)
#   scripts/check_package.sh ARCHIVE --root DIR a root that exists; the archive is unpacked into its /opt
#
# Exit code 77, with the reason, where roots cannot be changed to: it takes chroot(2) and mount(2), usually root.
set -euo pipefail

say() { printf 'check_package: %s\n' "$*"; }
fail() { printf 'check_package: %s\n' "$*" >&2; exit 1; }
skip() { say "skipped: $*"; exit 77; }

archive=${1:?ARCHIVE is missing} kind=${2:-bare}
scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
root=$scratch/root
mkdir "$root"
unshare -m chroot / true 2>/dev/null || skip "chroot and mount namespaces are not permitted here"

make_bare_root() {  # the files of Debian's package of the C library
  command -v dpkg-query >/dev/null || skip "this is not Debian: its C library is not known"
  local file
  while read -r file; do
    if [[ -f $file && $file == *.so* ]]; then
      mkdir -p "$root$(dirname "$file")"
      cp -L "$file" "$root$file"
    fi
  done < <(dpkg-query -L libc6)
  mkdir -p "$root/lib64"
  cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/" 2>/dev/null || true
}

case "$kind" in
  bare) make_bare_root ;;
  --debian)
    command -v debootstrap >/dev/null || skip "debootstrap is missing (third_party/debian-dev.txt)"
    debootstrap --variant=minbase bookworm "$root" >"$scratch/log" 2>&1 ||
      fail "debootstrap: $(tail -n 2 "$scratch/log")"
    ;;
  --root) root=${3:?DIR is missing} ;;
  *) fail "unknown option '$kind'; there are --debian and --root DIR" ;;
esac
mkdir -p "$root"/{opt,proc,dev,tmp,srv/texts}
tar -C "$root/opt" -xzf "$archive"
name=$(ls "$root/opt")
[[ $(wc -w <<<"$name") == 1 ]] || fail "the archive holds more than one folder: $name"

for i in 1 2 3 4 5 6; do
  for word in one two three four five six seven; do printf '%s %s times %s. ' "$word" "$i" "$word"; done
done >"$root/srv/texts/words.txt"
cat >"$root/srv/mine.yaml" <<'YAML'
extends: preset:mixtral-8x7b-tiny
run: {dir: run}
model: {hidden_size: 32, num_layers: 2, num_attention_heads: 2, vocab_size: null}
data: {tokenizer: char, sources: [{name: words, files: ["texts/*.txt"]}]}
training: {max_steps: 2, seq_length: 16, micro_batch_size: 2, global_batch_size: 2}
schedule: {warmup_steps: 1}
eval: {batches: 1}
YAML

# With the kernel's own folders, as any system has them: /proc says where the program is, and so where its presets are.
program() {
  unshare -m sh -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
      exec env -i "$(command -v chroot)" "$0" "$@"' "$root" "/opt/$name/bin/switchyard" "$@"
}
run() {
  printf '\n$ switchyard %s\n' "$*"
  program "$@" || fail "switchyard $* ended with exit code $?"
}
run --version
[[ $(program presets --names | wc -l) -gt 30 ]] || fail "switchyard presets --names lists too few"
run train /srv/mine.yaml run.dir=/srv/run data.cache_dir=/srv/shards
run train --resume /srv/run training.max_steps=3
run generate /srv/run --prompt one --max-new-tokens 4
if [[ $kind == bare ]]; then
  say "all of the root but the package: $(du -sh --exclude=opt --exclude=srv --exclude=proc "$root" | cut -f1)"
fi
say "passed: $(basename "$archive")"
