#!/usr/local/bin/busybox sh
# drain SECONDS lets traffic leave before Envoy stops, which ends what is under way as soon as it is told to. From here on
# Envoy says that it is not ready, and tells each client with its next answer to connect anew. It goes on serving: at least
# SECONDS, in which those who send clients here turn away, and then until nothing is under way. Kubernetes runs this before
# it stops a pod, and ends it with the pod's grace period.
set -eu
admin=http://127.0.0.1:9901

under_way() {
  busybox wget -q -O - "$admin/stats?filter=^http\.(edge|internal)\.downstream_rq_active$" | busybox grep -qv ': 0$'
}

busybox wget -q -O /dev/null --post-data '' "$admin/healthcheck/fail"
busybox sleep "$1"
while under_way; do busybox sleep 0.5; done
