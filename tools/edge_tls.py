"""Prints envoy/envoy.yaml with TLS at the edge (envoy/tls.yaml), for the containers of `make up TLS=on`.

It needs only the standard library: running containers requires no virtual environment.
"""

import sys
from pathlib import Path
from textwrap import indent

ENVOY = Path(__file__).parents[1] / "envoy"
FILTER_CHAIN = "        - filters:\n"  # the edge's is the first


def with_edge_tls() -> str:
    """Return envoy.yaml with TLS in the edge's filter chain."""
    added = indent((ENVOY / "tls.yaml").read_text(), " " * 10)
    return (ENVOY / "envoy.yaml").read_text().replace(FILTER_CHAIN, f"        -\n{added}          filters:\n", 1)


if __name__ == "__main__":
    sys.stdout.write(with_edge_tls())
