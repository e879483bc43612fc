#!/bin/bash
# node.sh NAME ADDRESSES PREPARED: what a Node is. The first process of its PID, mount, UTS, cgroup and network
# namespaces: every path, port and cgroup is the default one, and this Node's alone.
#
#   1. mounts: /proc, /sys and cgroups of these namespaces; own places over the machine's
#   2. containerd, and the images
#   3. kubelet
#
# Environment, folders: BIN, IMAGES, FILES, RUN, PKI, LOGS, and NODE, which keeps this Node's disks.
# Starts containerd and kubelet again when they end, as a service manager would.
set -uo pipefail
name=$1 addresses=$2 prepared=$3

# "Bidirectional" mounts of Pods work inside this Node, and stay here.
mount --make-rshared /
mount -t proc proc /proc
hostname "$name"

mount -t sysfs sysfs /sys
mount -t tmpfs cgroup /sys/fs/cgroup
for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
	mkdir "/sys/fs/cgroup/$controller"
	mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
done
mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
[ "$prepared" = no ] || mount -t bpf bpf /sys/fs/bpf

# /etc, /opt and others are the machine's with a layer of this Node's on top, so that places that the
# machine lacks can be made; the layer is in memory. The places that have to outlive a reboot are folders.
mkdir -p "$NODE/layers"
mount -t tmpfs layers "$NODE/layers"
for top in etc opt var/lib var/log usr/libexec; do
	mkdir -p "$NODE/layers/$top" "$NODE/layers/$top.work"
	mount -t overlay none -o "lowerdir=/$top,upperdir=$NODE/layers/$top,workdir=$NODE/layers/$top.work" "/$top"
done
for place in /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /var/log/containers \
	/etc/cni/net.d /opt/cni/bin /opt/containerd /usr/libexec/kubernetes; do
	mkdir -p "$place" "$NODE$place"
	mount --bind "$NODE$place" "$place"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/containerd
[ "$prepared" = no ] || cp /usr/lib/cni/{loopback,portmap,bandwidth,host-local,ptp} /opt/cni/bin/

containerd() { command containerd --config "$FILES/containerd.toml" >> "$LOGS/containerd-$name.log" 2>&1; }
kubelet() {
	"$BIN/kubelet" --config "$RUN/kubelet.yaml" --kubeconfig "$PKI/$name.kubeconfig" \
		--container-runtime-endpoint unix:///run/containerd/containerd.sock \
		--hostname-override "$name" --node-ip "$addresses" >> "$LOGS/kubelet-$name.log" 2>&1
}
(while true; do containerd; sleep 1; done) &
until ctr version > /dev/null 2>&1; do sleep 0.2; done
for image in "$IMAGES"/*.tar "$RUN"/images/*.tar; do
	[ -e "$image" ] || continue
	imported=$NODE/$(basename "$image").imported
	[ -e "$imported" ] || { ctr -n k8s.io images import "$image" > /dev/null && touch "$imported"; }
done
(while true; do kubelet; sleep 1; done) &
wait
