#!/usr/bin/env bash
# Benchmarks: tests/bench/run.sh local [workdir] | remote
# Prints ratios to the plain filesystem or to a peer under the same work, measured in turns in one run.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/musicfs-target}"

case "${1:-}" in
local)
    [ "$(id -u)" = 0 ] || { echo "tests/bench/run.sh: run as root: it drops the page cache" >&2; exit 1; }
    cargo build --release -p musicfs -p musicfs-tests --bins
    export MUSICFS_BIN="$CARGO_TARGET_DIR/release/musicfs"
    exec "$CARGO_TARGET_DIR/release/bench-local" "${2:-}"
    ;;
remote)
    [ "$(id -u)" = 0 ] || { echo "tests/bench/run.sh: run as root: it mounts" >&2; exit 1; }
    cargo build --release -p musicfs -p musicfs-tests --bins
    export MUSICFS_BIN="$CARGO_TARGET_DIR/release/musicfs"
    export MUSICFS_VENV="${MUSICFS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/musicfs-venv}"
    exec "$CARGO_TARGET_DIR/release/bench-remote"
    ;;
*)
    echo "usage: tests/bench/run.sh local [workdir] | remote" >&2
    exit 2
    ;;
esac
