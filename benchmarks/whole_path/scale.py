"""One to sixteen workers with a stand-in detector: whether throughput scales, and the balance stays even."""

from dataclasses import asdict
from typing import Any

from whole_path.images import images
from whole_path.load import Request, closed_load, until_all_answer
from whole_path.stacks import facet
from whole_path.stand_in import SECONDS as SERVICE_SECONDS

WORKERS = (1, 2, 4, 8, 12, 16)
SECONDS = 4.0  # of a period
ROUNDS = 3
CALLERS_PER_WORKER = 2  # one is always waiting


def measure(scale: float, counts: tuple[int, ...] = WORKERS) -> dict[str, Any]:
    """Measure each number of workers with a new stack."""
    image = images("320x240")[0]
    request = Request(image.name, image.as_it_is(), 0)
    rows = []
    for workers in counts:
        with facet(workers, request.data, inference="whole_path.stand_in") as stack:
            until_all_answer(stack, request, workers)
            samples = [
                closed_load(stack, [request], CALLERS_PER_WORKER * workers, SECONDS * scale) for _ in range(ROUNDS)
            ]
        rows.append({"workers": workers, "samples": [asdict(sample) for sample in samples]})
        print(f"{workers} sleeping workers: {samples[-1].rate:.1f} requests/s", flush=True)
    return {"service_seconds": SERVICE_SECONDS, "rows": rows}
