#!/usr/bin/env bash
# Installs from Debian the foreign programs that tests/interop needs, and only those that are missing.
# Postfix comes without configuration and is not started; tests run one of their own, from a directory of theirs.
# systemd is not started either: of it come the program that passes sockets and the one that checks units.
set -euo pipefail

# Each line: a program, and the package that has it.
peers=(
    "swaks swaks"
    "openssl openssl"
    "smtp-source postfix"
    "smtp-sink postfix"
    "strace strace"
    "sqlite3 sqlite3"
    "node nodejs"
    "npm npm"
    "escript erlang-base"
    "systemd-analyze systemd"
    "systemd-socket-activate systemd"
)
# Debian keeps some of them where only root looks.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

wanted=()
for peer in "${peers[@]}"; do
    read -r program package <<<"$peer"
    if ! command -v "$program" >/dev/null && [[ " ${wanted[*]-} " != *" $package "* ]]; then
        wanted+=("$package")
    fi
done
# Without this swaks speaks no TLS.
if ! perl -MNet::SSLeay -e 1 2>/dev/null; then
    wanted+=("libnet-ssleay-perl")
fi
if ((${#wanted[@]} == 0)); then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "install_peers: missing: ${wanted[*]}; this machine has no apt-get, install them by its own means" >&2
    exit 69
fi
as_root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "install_peers: missing: ${wanted[*]}; installing them needs root or sudo" >&2
        exit 69
    fi
    as_root=(sudo)
fi

echo "installing ${wanted[*]} from Debian (once)"
if [[ " ${wanted[*]} " == *" postfix "* ]]; then
    echo "postfix postfix/main_mailer_type select No configuration" | "${as_root[@]}" debconf-set-selections
fi
# A policy of 101 keeps packages from starting what they bring (invoke-rc.d); it is put away again afterwards.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null

missing=()
for peer in "${peers[@]}"; do
    read -r program package <<<"$peer"
    command -v "$program" >/dev/null || missing+=("$program ($package)")
done
if ((${#missing[@]})); then
    echo "install_peers: still missing after the installation: ${missing[*]}" >&2
    exit 69
fi
