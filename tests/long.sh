#!/usr/bin/env bash
# What takes too long for every change: many seeds, many crashes, much damage, the benchmarks.
# Run before a release, and before a piece of work is called done.
#
# usage: tests/long.sh [first seed]
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/musicfs-target}"
export MUSICFS_SEED="${1:-${MUSICFS_SEED:-1}}"
export MUSICFS_MODEL_SEEDS="${MUSICFS_MODEL_SEEDS:-100}"
export MUSICFS_CRASH_ROUNDS="${MUSICFS_CRASH_ROUNDS:-50}"
export MUSICFS_DAMAGED_COPIES="${MUSICFS_DAMAGED_COPIES:-1000}"
export MUSICFS_STORE_SEEDS="${MUSICFS_STORE_SEEDS:-10000}"
export MUSICFS_ALBUM_MB="${MUSICFS_ALBUM_MB:-600}"
export MUSICFS_KILL_ROUNDS="${MUSICFS_KILL_ROUNDS:-200}"
export MUSICFS_LIMIT_MB="${MUSICFS_LIMIT_MB:-2048}"
export MUSICFS_LIMIT_SECONDS="${MUSICFS_LIMIT_SECONDS:-120}"
export MUSICFS_LAB_NODES="${MUSICFS_LAB_NODES:-8}"
export MUSICFS_MATRIX="${MUSICFS_MATRIX:-full}"

tests/run.sh
[ ! -x tests/bench/run.sh ] || { tests/bench/run.sh local; tests/bench/run.sh remote; tests/bench/run.sh peers; }
