#!/usr/bin/env bash
# A lab: hosts on one Ethernet segment, all of it inside this machine.
#
# usage: netsim/lab.sh up ID NODES           makes hosts 1 to NODES and s, for servers
#        netsim/lab.sh down ID               ends the lab's processes and removes it; none is no error
#        netsim/lab.sh list                  a line for each host of each lab: ID NODE ADDRESS
#        netsim/lab.sh address ID NODE       its IPv4 address
#        netsim/lab.sh namespace ID NODE     its network namespace, as a path
#        netsim/lab.sh exec ID NODE CMD…     runs a program on a host; only the network is the host's
#        netsim/lab.sh rate ID NODE RATE     10mbit, 1gbit, 500kbit or off: what its line carries each way
#        netsim/lab.sh drop ID NODE PERCENT  1 to 100 or off: how much is lost on its line, each way
#        netsim/lab.sh cut ID NODE           pulls its cable
#        netsim/lab.sh cut-pair ID A B       two hosts do not hear each other any more; others hear both
#        netsim/lab.sh heal ID NODE          plugs its cable in, and ends every cut-pair that it is part of
#        netsim/lab.sh traffic ID FROM TO    bytes of packets that went from one host to another so far
#
# ID is made of a-z and 0-9 and names the lab: several live side by side and do not see each other. NODE
# is a number or s. Each host is a network namespace with lo and eth0, which has an address of 10.0.0.0/8
# and a link-local one of IPv6; multicast reaches everyone. There is no way out: no route, no gateway.
#
# Needs root, iproute2, nftables and util-linux.
set -euo pipefail

readonly PREFIX=musicfs
readonly NODES_MAX=200
# The host number of s in its subnet.
readonly SERVERS=254
# What a rate lets through at once, in milliseconds of it, and at least; what may wait.
readonly BURST_MS=10 BURST_BYTES_MIN=16384 QUEUE_MS=100
# How long processes may take to end by themselves when the lab goes down, in tenths of a second.
readonly PATIENCE=50

fail() {
    echo "netsim/lab.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '/^# usage:/,/^#$/{/^#$/d;s/^# //p}' "$0" >&2
    exit 2
}

is_id() {
    [[ $1 =~ ^[a-z0-9]{1,40}$ ]]
}

# The name of a host's namespace; b is the switch.
name() {
    echo "$PREFIX-$1-$2"
}

inside() {
    local name
    name=$(name "$1" "$2")
    shift 2
    nsenter --net="/run/netns/$name" -- "$@"
}

# What there is of a lab, the switch too, be it whole or half.
namespaces() {
    local path
    for path in "/run/netns/$PREFIX-$1-"*; do
        [ ! -e "$path" ] || echo "${path##*/}"
    done
}

# The hosts of a lab, s last.
hosts() {
    local node=1
    while [ -e "/run/netns/$(name "$1" "$node")" ]; do
        echo "$node"
        node=$((node + 1))
    done
    echo s
}

known() {
    is_id "$1" || fail "no lab is called '$1'"
    [ -e "/run/netns/$(name "$1" b)" ] || fail "there is no lab $1"
    [[ $2 =~ ^([0-9]+|s)$ ]] && [ -e "/run/netns/$(name "$1" "$2")" ] ||
        fail "lab $1 has no host '$2'"
}

# Each lab has a subnet of its own, as far as it goes: none ever meets another.
subnet() {
    local sum
    sum=$(printf %s "$1" | cksum | cut -d' ' -f1)
    echo "$((sum % 254 + 1)) $((sum / 254 % 254 + 1))"
}

number() {
    case "$2" in s) echo "$SERVERS" ;; *) echo "$2" ;; esac
}

address() {
    local x y
    read -r x y < <(subnet "$1")
    echo "10.$x.$y.$(number "$1" "$2")"
}

mac() {
    local x y
    read -r x y < <(subnet "$1")
    printf '02:00:00:%02x:%02x:%02x\n' "$x" "$y" "$(number "$1" "$2")"
}

add_host() {
    local id=$1 node=$2 switch host
    switch=$(name "$id" b) host=$(name "$id" "$node")
    ip netns add "$host"
    ip -n "$switch" link add name "p$node" type veth \
        peer name eth0 address "$(mac "$id" "$node")" netns "$host"
    ip -n "$switch" link set "p$node" master lan up
    # Nobody else can have the address that is made from this MAC: it can be used at once.
    inside "$id" "$node" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad'
    ip -n "$host" link set lo up
    ip -n "$host" address add "$(address "$id" "$node")/24" broadcast + dev eth0
    ip -n "$host" link set eth0 up
    # As a default route would lead it.
    ip -n "$host" route add 224.0.0.0/4 dev eth0
}

up() {
    local id=$1 nodes=$2 node switch
    is_id "$id" || fail "an ID is made of a-z and 0-9, 40 at most: '$id'"
    [[ $nodes =~ ^[0-9]{1,3}$ ]] && [ "$nodes" -ge 1 ] && [ "$nodes" -le "$NODES_MAX" ] ||
        fail "a lab has 1 to $NODES_MAX nodes: '$nodes'"
    [ -z "$(namespaces "$id")" ] || fail "there is a lab $id already"
    switch=$(name "$id" b)
    # Half a lab is none.
    trap 'down "$id"' EXIT
    ip netns add "$switch"
    ip -n "$switch" link add name lan type bridge mcast_snooping 0 forward_delay 0
    ip -n "$switch" link set lan up
    inside "$id" b nft -f - <<-END
	table bridge traffic {
	    set flows {
	        type ether_addr . ether_addr
	        flags dynamic
	        size 65535
	        counter
	    }
	    chain forward {
	        type filter hook forward priority -10; policy accept;
	        update @flows { ether saddr . ether daddr }
	    }
	}
	END
    for node in $(seq 1 "$nodes") s; do
        add_host "$id" "$node"
    done
    trap - EXIT
}

# The processes that live in a lab.
pids() {
    local namespace
    for namespace in $(namespaces "$1"); do
        ip netns pids "$namespace"
    done
}

end_processes() {
    local id=$1 pids tries
    pids=$(pids "$id")
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086 # several of them
    kill -TERM $pids 2>/dev/null || true
    # shellcheck disable=SC2086 # one that is stopped would not hear it
    kill -CONT $pids 2>/dev/null || true
    for ((tries = 0; tries < PATIENCE; tries++)); do
        [ -n "$(pids "$id")" ] || return 0
        sleep 0.1
    done
    pids=$(pids "$id")
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
}

down() {
    local id=$1 namespace
    is_id "$id" || fail "no lab is called '$id'"
    end_processes "$id"
    for namespace in $(namespaces "$id"); do
        ip netns delete "$namespace"
    done
}

list() {
    local path id node
    for path in "/run/netns/$PREFIX-"*-b; do
        [ -e "$path" ] || continue
        id=${path##*/"$PREFIX-"}
        id=${id%-b}
        for node in $(hosts "$id"); do
            echo "$id $node $(address "$id" "$node")"
        done
    done
}

bits_per_second() {
    [[ $1 =~ ^([1-9][0-9]{0,5})(kbit|mbit|gbit)$ ]] || fail "a rate is like 10mbit, or off: '$1'"
    case "${BASH_REMATCH[2]}" in
    kbit) echo $((BASH_REMATCH[1] * 1000)) ;;
    mbit) echo $((BASH_REMATCH[1] * 1000000)) ;;
    gbit) echo $((BASH_REMATCH[1] * 1000000000)) ;;
    esac
}

rate() {
    local id=$1 node=$2 rate=$3 bits burst end shape
    if [ "$rate" = off ]; then
        inside "$id" b tc qdisc delete dev "p$node" root 2>/dev/null || true
        inside "$id" "$node" tc qdisc delete dev eth0 root 2>/dev/null || true
        return
    fi
    bits=$(bits_per_second "$rate")
    burst=$((bits / 8 * BURST_MS / 1000))
    [ "$burst" -ge "$BURST_BYTES_MIN" ] || burst=$BURST_BYTES_MIN
    shape=(root tbf rate "${bits}bit" burst "$burst" latency "${QUEUE_MS}ms")
    inside "$id" b tc qdisc replace dev "p$node" "${shape[@]}"
    inside "$id" "$node" tc qdisc replace dev eth0 "${shape[@]}"
}

# Removes tables of the switch, there or not.
forget() {
    local id=$1 table
    shift
    for table in "$@"; do
        inside "$id" b nft delete table bridge "$table" 2>/dev/null || true
    done
}

# Makes a table of the switch with these rules in the place of one that is there.
filter() {
    local id=$1 table=$2 rule
    shift 2
    {
        printf 'table bridge %s\ndelete table bridge %s\n' "$table" "$table"
        printf 'table bridge %s {\n chain forward {\n' "$table"
        printf '  type filter hook forward priority 0; policy accept;\n'
        for rule in "$@"; do
            printf '  %s drop\n' "$rule"
        done
        printf ' }\n}\n'
    } | inside "$id" b nft -f -
}

lose() {
    local id=$1 node=$2 percent=$3 chance
    [ "$percent" != off ] || { forget "$id" "drop_$node" && return; }
    [[ $percent =~ ^[0-9]{1,3}$ ]] && [ "$percent" -ge 1 ] && [ "$percent" -le 100 ] ||
        fail "a loss is 1 to 100 percent, or off: '$percent'"
    # Where nothing comes through there is no chance, and nft knows no chance of that kind.
    chance=
    [ "$percent" = 100 ] || chance="numgen random mod 100 < $percent"
    filter "$id" "drop_$node" "iifname p$node $chance" "oifname p$node $chance"
}

pair() {
    printf 'pair_%s_%s\n' "$1" "$2"
}

heal() {
    local id=$1 node=$2 other
    for other in $(hosts "$id"); do
        forget "$id" "$(pair "$node" "$other")" "$(pair "$other" "$node")"
    done
    ip -n "$(name "$id" b)" link set "p$node" up
}

traffic() {
    local id=$1 from=$2 to=$3
    inside "$id" b nft list set bridge traffic flows | tr -d '\n\t' | tr ',{}' '\n\n\n' |
        awk -v flow="$(mac "$id" "$from") . $(mac "$id" "$to") " '
            index($0, flow) { sub(".* bytes ", ""); sum += $1 }
            END { printf "%d\n", sum }'
}

main() {
    local command=${1:-} least
    shift || usage
    case "$command" in
    list) least=0 ;;
    down) least=1 ;;
    up | address | namespace | cut | heal) least=2 ;;
    exec | rate | drop | cut-pair | traffic) least=3 ;;
    *) usage ;;
    esac
    [ "$#" = "$least" ] || { [ "$command" = exec ] && [ "$#" -gt "$least" ]; } || usage
    case "$command" in list | up | down) ;; *) known "$1" "$2" ;; esac
    case "$command" in cut-pair | traffic) known "$1" "$3" ;; esac
    case "$command" in
    up | down | list | address | rate | heal | traffic) "$command" "$@" ;;
    namespace) echo "/run/netns/$(name "$1" "$2")" ;;
    exec) exec nsenter --net="/run/netns/$(name "$1" "$2")" -- "${@:3}" ;;
    drop) lose "$@" ;;
    cut) ip -n "$(name "$1" b)" link set "p$2" down ;;
    cut-pair)
        filter "$1" "$(pair "$2" "$3")" "iifname p$2 oifname p$3" "iifname p$3 oifname p$2"
        ;;
    esac
}

main "$@"
