#!/usr/local/bin/busybox sh
# drain SECONDS: let traffic leave before Envoy stops, since Envoy drops all requests in progress at SIGTERM.
# From now on Envoy reports that it is not ready, and asks each client to reconnect with its next response. It keeps
# serving for at least SECONDS, while load balancers turn away, and then until no request is in progress. Kubernetes runs
# this before it stops a pod, and ends it with the pod's grace period.
set -u
admin=http://127.0.0.1:9901
wget="busybox timeout 2 busybox wget -Y off -q"  # -Y off ignores http_proxy

# Succeeds when Envoy has sent all responses, not counting what slow clients have not read yet. A failed request proves
# nothing.
idle() {
  active=$($wget -O - "$admin/stats?filter=^http\.(edge|internal)\.downstream_rq_active$") || return 1
  ! echo "$active" | busybox grep -qv ': 0$'
}

$wget -O /dev/null --post-data '' "$admin/healthcheck/fail" || echo "cannot tell Envoy to drain" >&2
busybox sleep "$1"
until idle; do busybox sleep 0.5; done
