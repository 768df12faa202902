"""Who of the workers is asked: each as much as the others, and without a gap when the only one is replaced."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.load import Load
from tests.stack.running import RunningStack, gone, running_stack, wait_for

CALLERS = 16


def test_requests_spread_evenly_over_the_worker_processes(
    processes: RunningStack, astronaut_file: bytes, face_file: bytes
) -> None:
    """16 callers, 4 workers: each process answers 25 % of the requests, give or take 5 points.

    The picture takes a worker longer than the system needs to let each process run once.
    """
    wait_for(lambda: len(_answering(processes, face_file)) == 4, "Envoy knows that 4 workers serve")
    with Load(processes.url, astronaut_file, CALLERS) as load:
        load.wait_for_more(500)
    shares = {worker: count / load.count for worker, count in load.by_worker().items()}
    assert len(shares) == 4
    assert all(0.20 <= share <= 0.30 for share in shares.values()), shares
    assert load.lost() == {}


def _answering(processes: RunningStack, body: bytes) -> set[str]:
    with Load(processes.url, body, 4) as load:
        load.wait_for_more(8)
    return {worker for (status, worker, _) in load.answers if status == 200}


def test_a_single_worker_is_replaced_without_a_gap(tmp_path: Path, face_file: bytes) -> None:
    """SIGHUP with one worker: its successor serves before it goes, also for those who come to the shared port."""
    with running_stack(tmp_path / "logs", "--workers=1") as one:
        before = one.workers()[0]
        with Load(one.url, face_file, 2) as load:
            load.wait_for_more(5)
            one.supervisors()[0].send_signal(signal.SIGHUP)
            direct, refused = 0, []
            while not gone(before):  # each with a connection of its own
                with grpc.insecure_channel(one.shared) as channel:
                    image = infer_pb2.Image(raw_data=face_file)
                    try:
                        answer = infer_pb2_grpc.InferenceStub(channel).Predict(image, timeout=60, wait_for_ready=True)
                    except grpc.RpcError as error:
                        # gRPC cancels a call that arrives in the instant in which its server closes.
                        refused.append(error.code())
                        continue
                assert len(answer.results) == 1
                direct += 1
            # There is one such instant. Envoy sends nothing then; a direct client tries again.
            assert refused in ([], [grpc.StatusCode.CANCELLED], [grpc.StatusCode.UNAVAILABLE])
            load.wait_for_more(20)
        assert load.lost() == {}
        assert direct > 5
