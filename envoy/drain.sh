#!/usr/local/bin/busybox sh
# drain SECONDS lets traffic leave before Envoy stops, which ends what is under way as soon as it is told to. From here on
# Envoy says that it is not ready, and tells each client with its next answer to connect anew. It goes on serving: at least
# SECONDS, in which those who send clients here turn away, and then until nothing is under way. Kubernetes runs this before
# it stops a pod, and ends it with the pod's grace period.
set -u
admin=http://127.0.0.1:9901

# Whether all answers are sent, as far as Envoy knows: what a slow reader has not taken yet does not count. No answer from
# Envoy says nothing.
idle() {
  figures=$(busybox wget -q -T 2 -O - "$admin/stats?filter=^http\.(edge|internal)\.downstream_rq_active$") || return 1
  ! echo "$figures" | busybox grep -qv ': 0$'
}

busybox wget -q -T 2 -O /dev/null --post-data '' "$admin/healthcheck/fail" || echo "Envoy was not told to drain" >&2
busybox sleep "$1"
until idle; do busybox sleep 0.5; done
