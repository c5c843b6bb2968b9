#!/usr/bin/env bash
# Runs the steps of the Dockerfile's first stage in a bare Debian 12 made by debootstrap, where Docker is not at hand,
# and leaves the package in DIR. Needs root; downloads about 1.5 GB and builds the whole program.
#
#   scripts/run_dockerfile.sh DIR
#
# COPY takes the files that git tracks, as they are; with them .git, for the commit that --version tells.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${1:?DIR, the folder for the package, is missing}
fail() { printf 'run_dockerfile: %s\n' "$*" >&2; exit 1; }
command -v debootstrap >/dev/null || fail "debootstrap is missing (third_party/debian-dev.txt)"
scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
root=$scratch/root
debootstrap --variant=minbase bookworm "$root" >/dev/null
cp /etc/resolv.conf "$root/etc/"
# The network as this machine reaches it: its proxies, and the certificates that it trusts.
network=()
for name in http_proxy https_proxy no_proxy; do network+=("$name=${!name:-}"); done
if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/machine-certificates.crt"
  network+=(PIP_CERT=/etc/machine-certificates.crt)
fi
mkdir -p "$out"

folder=/
within() {  # $1: a command line for the root's shell
  unshare -m sh -c 'root=$1 && shift && mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
      exec env -i "PATH=$PATH" chroot "$root" env "$@"' \
    sh "$root" HOME=/root DEBIAN_FRONTEND=noninteractive "${network[@]}" sh -c "cd '$folder' && $1"
}

while read -r word rest; do
  case "$word" in
    FROM)
      if [[ $rest != *" AS build" ]]; then break; fi
      continue
      ;;
    WORKDIR) folder=$rest; mkdir -p "$root$rest" ;;
    COPY)
      [[ $rest == ". ." ]] || fail "cannot do 'COPY $rest', only 'COPY . .'"
      { git ls-files -z; printf '.git\0'; } | tar --null -T - --owner=0 --group=0 -cf - | tar -C "$root$folder" -xf -
      ;;
    RUN) echo "== RUN $rest"; within "$rest" ;;
    ""|"#") ;;
    *) fail "cannot do '$word'" ;;
  esac
done < <(grep -v '^#' Dockerfile)
cp "$root"/package/*.tar.gz "$out/"
ls -l "$out"
