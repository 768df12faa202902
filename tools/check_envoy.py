"""Has Envoy validate every form of its configuration, for `make check`. A warning fails, too."""

import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

from tools.certificates import make_certificate
from tools.keys import add_key
from tools.serve.plan import ROOT, CannotServe, Plan
from tools.serve.rendering import OFF, envoy_yaml, write_envoy_config
from tools.serve.validation import check_extension, envoy_errors


def check_all() -> str:
    """Return what Envoy reports: for containers and for this machine, with each option, with traces and without."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        add_key(here / "keys.yaml", "alice")
        make_certificate(here, "localhost")
        guarded = Plan(logs=here, keys=here, rate_limit=ROOT / "envoy/rate-limit")
        secure = replace(guarded, edge_tls=here / "edge")
        for file in (here / "keys.yaml", ROOT / "envoy/rate-limit/rate-limit.yaml", *OFF.iterdir()):
            check_extension(file)
        local = write_envoy_config(replace(secure, web_replicas=2, inference_replicas=2)).read_text()
        traces = ("--skip-deprecated-logs", "--config-yaml", (ROOT / "envoy/traces.yaml").read_text())
        texts = (envoy_yaml(Plan()), envoy_yaml(guarded), envoy_yaml(secure), local)
        return "\n".join(filter(None, (envoy_errors(text, *more) for text, more in product(texts, ((), traces)))))


if __name__ == "__main__":
    try:
        found = check_all()
    except CannotServe as error:
        found = str(error)
    print(found or "envoy.yaml is valid")
    sys.exit(bool(found))
