#!/usr/bin/env bash
# Everything that every change must pass, and exactly what CI runs: format, lints, build, tests.
#
# usage: tests/run.sh [arguments of cargo test]      e.g. tests/run.sh -p musicfs-tests --test mount
set -euo pipefail
cd "$(dirname "$0")/.."

# The build directory lies outside of the checkout: it outlives it and is never committed.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/musicfs-target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"

# Program or file, and the Debian package that it comes from.
NEEDS=(
    fusermount3:fuse3 flac:flac metaflac:flac lame:lame oggenc:vorbis-tools
    vorbiscomment:vorbis-tools opusenc:opus-tools ffmpeg:ffmpeg ffprobe:ffmpeg sox:sox mpd:mpd
    mpc:mpc setfattr:attr setfacl:acl setpriv:util-linux unshare:util-linux cc:gcc
    /usr/lib/python3/dist-packages/mutagen:python3-mutagen
)

missing() {
    local need
    for need in "${NEEDS[@]}"; do
        case "$need" in
        /*) [ -e "${need%%:*}" ] || echo "${need##*:}" ;;
        *) command -v "${need%%:*}" >/dev/null || echo "${need##*:}" ;;
        esac
    done | sort -u
}

stage() {
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    local code=0
    "$@" || code=$?
    echo "== $name: $((SECONDS - start)) s$([ "$code" = 0 ] || echo ", FAILED ($code)")"
    return "$code"
}

install() {
    local packages
    mapfile -t packages < <(missing)
    [ "${#packages[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "tests/run.sh: missing packages: ${packages[*]}; install them and run this again" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    mapfile -t packages < <(missing)
    [ "${#packages[@]}" = 0 ] || {
        echo "tests/run.sh: still missing after the installation: ${packages[*]}" >&2
        return 1
    }
}

# The suites mount, unmount, make namespaces and small disks.
able() {
    [ "$(id -u)" = 0 ] || { echo "tests/run.sh: the real-mount suites need root" >&2; return 1; }
    [ -c /dev/fuse ] || modprobe fuse 2>/dev/null || true
    [ -c /dev/fuse ] || { echo "tests/run.sh: there is no /dev/fuse: modprobe fuse" >&2; return 1; }
    # Many handles are held open at once, here and in the daemon.
    ulimit -n "$(ulimit -Hn)"
}

stage packages install
stage prerequisites able
stage format cargo fmt --all --check
stage clippy cargo clippy --locked --workspace --all-targets -- -D warnings
stage build cargo build --locked -p musicfs
stage test cargo test --locked --workspace --no-fail-fast "$@"
echo "== all: $SECONDS s"
