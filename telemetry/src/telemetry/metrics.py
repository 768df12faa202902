"""The folder in which the processes of a service keep their counts, so that any of them can show the sums."""

import os
import tempfile


def make_folder() -> str:
    """Make a folder in TMPDIR for the counts of all processes that start from now on, and give its path.

    prometheus_client looks for the folder when it is imported. A process that forks its workers, as gunicorn does, must
    make the folder before the first import.
    """
    folder = tempfile.mkdtemp(prefix="facet-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    return folder
