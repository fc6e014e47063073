#!/usr/bin/env bash
# Fetches runc and crun of a newer Debian suite into a directory, beside and without touching the
# installed ones:  benchmarks/newer-peers.sh DIRECTORY [SUITE]     (default: sid)
# They bring their own libc. Then:  python -m benchmarks --peers DIRECTORY/bin
set -euo pipefail

directory=$(realpath -m "${1:?usage: $0 DIRECTORY [SUITE]}")
suite=${2:-sid}
programs=(runc crun)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/{lists/partial,archives/partial,debs,tools} "$directory"/{bin,root}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main" >"$work/sources.list"
newer=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
apt-get "${newer[@]}" -qq update
# Their libraries, and those of their libraries.
mapfile -t libraries < <(apt-cache "${newer[@]}" depends --recurse --no-recommends --no-suggests \
    --no-conflicts --no-breaks --no-replaces --no-enhances "${programs[@]}" | grep '^lib[a-z]' |
    sort -u)
cd "$work/debs"
apt-get "${newer[@]}" -qq download "${programs[@]}" "${libraries[@]}"
for package in *.deb; do
    dpkg-deb --extract "$package" "$directory/root"
done

patchelf=$(command -v patchelf || true)
if [[ -z $patchelf ]]; then
    cd "$work/tools"
    apt-get -qq -o APT::Sandbox::User=root download patchelf
    dpkg-deb --extract patchelf_*.deb .
    patchelf=$work/tools/usr/bin/patchelf
fi

cd "$directory/root"
loader=$(find . -name 'ld-linux*.so.?' -print -quit)
libc=$(dirname "$(find . -name libc.so.6 -print -quit)")
for program in "${programs[@]}"; do
    found=$(find . -path "*bin/$program" -type f -print -quit)
    "$patchelf" --set-interpreter "$(realpath "$loader")" --force-rpath \
        --set-rpath "$(realpath "$libc"):$directory/root/usr/lib/$(basename "$libc")" \
        --output "$directory/bin/$program" "$found"
    chmod 755 "$directory/bin/$program"
    "$directory/bin/$program" --version | sed -n 1p
done
