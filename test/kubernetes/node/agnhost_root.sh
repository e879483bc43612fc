#!/bin/bash
# agnhost_root.sh BIN ROOT: fills ROOT with what upstream's specs look for in the image agnhost: the program
# itself, busybox under its names, and Debian's tools with the libraries that they are linked against.
set -euo pipefail
bin=$1 root=$2

# with_libraries FILE…: copies each FILE and the shared objects it loads to the same paths.
with_libraries() {
	local file
	for file; do
		{ echo "$file"; ldd "$file" 2> /dev/null | grep -o '/[^ )]*' || true; } | while read -r one; do
			mkdir -p "$root$(dirname "$one")"
			cp -L "$one" "$root$one"
		done
	done
}

mkdir -p "$root"/{bin,usr/bin,sbin,usr/sbin,usr/local/bin,etc,tmp,root,uploads,var/run,lib64}
chmod 1777 "$root/tmp"
cp /usr/bin/busybox "$root/bin/busybox"
for name in $(busybox --list); do [ "$name" = busybox ] || ln -sf /bin/busybox "$root/bin/$name"; done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"

cp "$bin/coredns" "$root/"
cp "$bin/agnhost" "$root/agnhost-program"
cp "$bin/agnhost-front" "$root/agnhost"
ln -s agnhost "$root/agnhost-2"
# For `agnhost porter`.
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost \
	-keyout "$root/localhost.key" -out "$root/localhost.crt" 2> /dev/null
# sh is dash, since busybox' own prefers its applets (its nc knows no UDP) to the PATH; wget is Debian's,
# since a static one cannot resolve names.
rm -f "$root"/bin/{sh,ash,nc,ip,nslookup,wget}
with_libraries /usr/bin/{dash,bash,curl,wget,nc.openbsd,dig,getent,nslookup,socat,iperf} /bin/{ss,ip}
ln -s /usr/bin/dash "$root/bin/sh"
ln -s /usr/bin/bash "$root/bin/bash"
ln -s /usr/bin/nc.openbsd "$root/usr/bin/nc"
ln -s /usr/bin/iperf "$root/usr/local/bin/iperf"
libraries=$(dirname "$(ldd /usr/bin/getent | grep -o '/[^ ]*libc\.so\.6')")
mkdir -p "$root$libraries"
cp -L "$libraries"/libnss_{dns,files}.so.2 "$root$libraries/"
