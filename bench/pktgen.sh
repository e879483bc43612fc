#!/bin/bash
# The kernel's pktgen from one NIC to another, in the scenarios of bench/pktgen.ts.
#
#   bench/pktgen.sh --device DEV --destination-mac MAC [--source ADDRESS] [--destination ADDRESS]
#     [--size BYTES] [--flows N] [--frames N] [--rounds N] [--cpu N] [--sink DEV]
#
# DEV is a NIC, or any other device of this network namespace, such as a Pod's veth. Sizes count from
# the Ethernet header, without FCS. --sink names a device of this namespace where the packets arrive:
# its rx_packets are read before and after. Prints a table and a line of JSON like bench/pktgen.ts.
# CPU time per packet is that of pktgen's thread and of the softirqs.
# Kernel documentation: networking/pktgen.
set -euo pipefail

device='' destination_mac='' source=198.18.0.1 destination=198.18.0.2
size=64 flows=1 frames=1000000 rounds=7 cpu=0 sink=''
while [ $# -gt 0 ]; do
	case $1 in
	--device) device=$2 ;;
	--destination-mac) destination_mac=$2 ;;
	--source) source=$2 ;;
	--destination) destination=$2 ;;
	--size) size=$2 ;;
	--flows) flows=$2 ;;
	--frames) frames=$2 ;;
	--rounds) rounds=$2 ;;
	--cpu) cpu=$2 ;;
	--sink) sink=$2 ;;
	*)
		sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
		exit 2
		;;
	esac
	shift 2
done
if [ -z "$device" ] || [ -z "$destination_mac" ]; then
	echo "pktgen.sh: Cannot generate: expected --device and --destination-mac" >&2
	exit 2
fi

modprobe pktgen 2>/dev/null || true
proc=/proc/net/pktgen
if [ ! -w $proc/pgctrl ]; then
	echo "pktgen.sh: Cannot generate: expected the kernel's pktgen (CONFIG_NET_PKTGEN), got no $proc" >&2
	exit 1
fi

# Writes a command to one of pktgen's files; the file then holds the result.
tell() {
	echo "$2" >"$proc/$1" || {
		echo "pktgen.sh: Cannot tell $1 \"$2\": $(grep -a Result "$proc/$1" || true)" >&2
		exit 1
	}
}

thread=kpktgend_$cpu
trap 'echo "rem_device_all" >"$proc/$thread" 2>/dev/null || true' EXIT
tell "$thread" rem_device_all
tell "$thread" "add_device $device"
tell "$device" "count $frames"
tell "$device" "pkt_size $size"
tell "$device" "delay 0"
# Software devices free the packet, so it cannot be sent twice.
tell "$device" "clone_skb 0"
tell "$device" "dst_mac $destination_mac"
case $destination in
*:*) tell "$device" "src6 $source" && tell "$device" "dst6 $destination" ;;
*)
	tell "$device" "src_min $source" && tell "$device" "src_max $source"
	tell "$device" "dst_min $destination" && tell "$device" "dst_max $destination"
	;;
esac
# Flow n has source port 10000 + n % 8192 and destination port 20000 + n / 8192.
last=$((flows < 8192 ? flows : 8192))
tell "$device" "udp_src_min 10000"
tell "$device" "udp_src_max $((10000 + last))"
tell "$device" "udp_dst_min 20000"
tell "$device" "udp_dst_max $((20001 + (flows - 1) / 8192))"

cpu_time() { # of pktgen's thread and of this CPU's softirqs, in nanoseconds
	local sum=0 name pid
	for name in "$thread" "ksoftirqd/$cpu"; do
		for pid in $(pgrep -x "$name"); do
			sum=$((sum + $(cut -d' ' -f1 "/proc/$pid/schedstat")))
		done
	done
	echo "$sum"
}
arrived() { [ -z "$sink" ] && echo 0 || cat "/sys/class/net/$sink/statistics/rx_packets"; }

cpu_list='' rate_list='' sent_sum=0 received_sum=0
for ((round = 0; round < rounds; round++)); do
	before=$(cpu_time)
	arrived_before=$(arrived)
	tell pgctrl start
	spent=$(($(cpu_time) - before))
	received=$(($(arrived) - arrived_before))
	sent=$(awk '/pkts-sofar:/ { print $2 }' "$proc/$device")
	pps=$(grep -ao '[0-9]*pps' "$proc/$device" | tr -d 'ps')
	sent_sum=$((sent_sum + sent))
	received_sum=$((received_sum + received))
	counted=$([ -n "$sink" ] && echo "$received" || echo "$sent")
	cpu_list+="$((counted > 0 ? spent / counted : 0)) "
	rate_list+="$pps "
done

spread() { # median (least–greatest) of its arguments
	printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END {
		m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
		printf "%d (%d–%d)", m, v[1], v[NR] }'
}
share=$([ -n "$sink" ] && awk "BEGIN { printf \"%.1f %%\", int(1000 * $received_sum / $sent_sum) / 10 }" || echo "not counted")
# shellcheck disable=SC2086 # a list of numbers
{
	printf '\nOut of %s by the kernel'\''s pktgen\n' "$device"
	printf '%-28s %24s %28s  %s\n' "" "CPU ns" "packets a second" delivered
	printf '%-28s %24s %28s  %s\n' "$size bytes, $flows flows" "$(spread $cpu_list)" "$(spread $rate_list)" "$share"
}
list() { printf '%s' "${1% }" | tr ' ' ','; }
printf '{"bench":"pktgen.sh","date":"%s","kernel":"%s","device":"%s","size":%d,"flows":%d,"cpuPerPacket":[%s],"packetsPerSecond":[%s],"sent":%d,"received":%s}\n' \
	"$(date -u +%FT%TZ)" "$(uname -r)" "$device" "$size" "$flows" "$(list "$cpu_list")" \
	"$(list "$rate_list")" "$sent_sum" "$([ -n "$sink" ] && echo "$received_sum" || echo null)"
