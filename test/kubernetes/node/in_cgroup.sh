#!/bin/bash
# in_cgroup.sh NAME COMMAND…: COMMAND in the cgroup NAME of every controller (cgroup v1) or of the one
# hierarchy (v2), which is made if need be.
set -euo pipefail
name=$1; shift
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	hierarchies=/sys/fs/cgroup
else
	hierarchies=$(echo /sys/fs/cgroup/*)
fi
for hierarchy in $hierarchies; do
	[ -w "$hierarchy/cgroup.procs" ] || continue
	mkdir -p "$hierarchy/$name"
	if [ -e "$hierarchy/cpuset.cpus" ]; then
		cat "$hierarchy/cpuset.cpus" > "$hierarchy/$name/cpuset.cpus"
		cat "$hierarchy/cpuset.mems" > "$hierarchy/$name/cpuset.mems"
	fi
	echo $$ > "$hierarchy/$name/cgroup.procs"
done
exec "$@"
