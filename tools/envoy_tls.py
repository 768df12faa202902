"""Puts envoy/tls.yaml into envoy/envoy.yaml: TLS at the edge, mTLS between the tiers, or both.

    python tools/envoy_tls.py --tiers > envoy.yaml

Envoy can be given more listeners and clusters beside a configuration, but nothing within those that it has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
HEAD = """# envoy.yaml with envoy/tls.yaml in it, from tools/envoy_tls.py. Both say why things are as they are.
# yamllint disable
"""


def with_tls(config: dict[str, Any], *parts: str) -> dict[str, Any]:
    """Put parts of envoy/tls.yaml, `edge` and `tiers`, into a configuration, and give that back."""
    added = yaml.safe_load((ROOT / "envoy/tls.yaml").read_text())
    for part in parts:
        for kind, fields in added[part].items():
            for found in config["static_resources"][kind]:
                place = found["filter_chains"][0] if kind == "listeners" else found
                place.update(fields.get(found["name"], {}))
    return config


def render(*parts: str) -> str:
    """Give the whole configuration as a file."""
    config = with_tls(yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text()), *parts)
    return HEAD + yaml.dump(config, Dumper=_Plain, sort_keys=False, width=1000)


class _Plain(yaml.SafeDumper):
    """Without anchors: what is said twice stands there twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's hook
        return True


def main() -> None:
    """Print the configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in ("edge", "tiers"):
        parser.add_argument(f"--{part}", action="append_const", dest="parts", const=part)
    sys.stdout.write(render(*(parser.parse_args().parts or ())))


if __name__ == "__main__":
    main()
