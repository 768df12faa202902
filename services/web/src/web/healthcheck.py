"""`python -m web.healthcheck FOLDER` asks the gateway of this container for its health, where there is mTLS.

Without, the image asks with a line of Python.
"""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from urllib.request import urlopen

ADDRESS = "https://127.0.0.1:8000/healthz"


def main() -> None:
    """Ask once; whatever is wrong is raised."""
    folder, address = (*sys.argv[1:], ADDRESS)[:2]
    context = ssl.create_default_context(cafile=str(Path(folder) / "ca.crt"))
    context.check_hostname = False  # an address has no name; it is this container's own
    context.load_cert_chain(Path(folder) / "tls.crt", Path(folder) / "tls.key")
    with urlopen(address, timeout=2, context=context):  # noqa: S310 - an address of ours
        pass


if __name__ == "__main__":
    main()
