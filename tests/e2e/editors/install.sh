#!/usr/bin/env bash
# Editors for the tests of this folder, on Debian and as root; anywhere else nothing, and the tests say what they skip.
# From the system's own packages: Neovim, Emacs, eglot, lsp-mode. With --newer, Neovim, Helix and lsp-mode from Debian's
# unstable packages, unpacked in build/editors: nothing of them is installed, they bring their own C library. Their
# versions move, so `make test` does without.
set -uo pipefail
cd "$(dirname "$0")/../../.."
HERE=build/editors
mkdir -p "$HERE"
log=$HERE/install.log
exec 3>&1 >"$log" 2>&1

say() { echo "editors: $*" >&3; }

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    say "not root on Debian; tests of editors that are not here are skipped"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive

wanted=()
for pair in nvim:neovim emacs:emacs-nox; do
    command -v "${pair%%:*}" || wanted+=("${pair##*:}")
done
for package in elpa-eglot elpa-lsp-mode; do
    dpkg -s "$package" || wanted+=("$package")
done
if [ ${#wanted[@]} -gt 0 ]; then
    apt-get update || true
    for package in "${wanted[@]}"; do # one by one: not every system has each
        apt-get install -y --no-install-recommends "$package" || say "no $package (see $log)"
    done
fi

[ "${1:-}" = --newer ] || exit 0
[ -x "$HERE/bin/nvim" ] && [ -x "$HERE/bin/hx" ] && [ -d "$HERE/root/usr/share/emacs" ] && exit 0
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keys" ] || { say "no newer editors: $keys is missing"; exit 0; }
apt=$PWD/$HERE/apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
touch "$apt/state/status" # as if nothing was installed: whole closures come
echo "deb [signed-by=$keys] http://deb.debian.org/debian sid main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<EOF
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Sandbox::User "root";
EOF
export APT_CONFIG=$apt/apt.conf
lisp=(elpa-lsp-mode elpa-dash elpa-f elpa-ht elpa-lv elpa-markdown-mode elpa-s elpa-spinner)
if apt-get update && apt-get install -y --no-install-recommends --download-only neovim hx &&
    (cd "$apt/cache/archives" && apt-get download "${lisp[@]}"); then
    root=$PWD/$HERE/root
    rm -rf "$root" && mkdir -p "$root" "$HERE/bin"
    for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    loader=$(find "$root/usr/lib" -name 'ld-linux*.so.*' -type f | head -1)
    run="exec '$loader' --library-path '$(dirname "$loader")'"
    printf '#!/bin/sh\nVIMRUNTIME=%s exec %s --argv0 nvim %s "$@"\n' \
        "'$root/usr/share/nvim/runtime'" "${run#exec }" "'$root/usr/bin/nvim'" >"$HERE/bin/nvim"
    printf '#!/bin/sh\nHELIX_RUNTIME=%s exec %s %s "$@"\n' \
        "'$root/usr/lib/hx/runtime'" "${run#exec }" "'$root/usr/lib/hx/hx'" >"$HERE/bin/hx"
    chmod +x "$HERE"/bin/*
else
    say "no newer editors (see $log)"
fi
rm -rf "$apt"
exit 0
