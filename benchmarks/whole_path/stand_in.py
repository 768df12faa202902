"""The inference service with a detector that sleeps, so that sixteen workers do not need sixteen CPUs.

    FACET_WORKERS=16 python -m whole_path.stand_in

Supervisor, workers, gRPC, health and decoding are the real ones.
"""

import sys
import time

import inference.__main__ as service
from inference.mtcnn.detector import RGB, Detector, Face
from inference.mtcnn.steps import Steps
from inference.process import worker
from inference.settings import Settings

SECONDS = 0.1


class StandInEngine:
    """Finds no faces, and takes a fixed time."""

    name = "stand-in"
    device = "none"

    def find_faces(self, pixels: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        """Sleep for about the time of a one-megapixel image."""
        del pixels, min_face_size
        with steps("pnet"):
            time.sleep(SECONDS)
        return []


def load_stand_in(settings: Settings) -> Detector:
    """Replace `worker.load`."""
    del settings
    return Detector(StandInEngine())


def main() -> int:
    """Run a worker if the supervisor passed arguments, otherwise the supervisor of such workers."""
    if sys.argv[1:]:
        worker.load = load_stand_in
        worker.main()
        return 0
    real = service.worker_command

    def command(slot: int, heartbeat_fd: int, worker_id: str) -> list[str]:
        return [
            "whole_path.stand_in" if argument == "inference.process.worker" else argument
            for argument in real(slot, heartbeat_fd, worker_id)
        ]

    service.worker_command = command
    return service.main()


if __name__ == "__main__":
    sys.exit(main())
