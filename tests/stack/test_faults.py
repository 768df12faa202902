"""Requests are spread evenly over the workers, and continue while the only worker is replaced."""

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
    """With 16 callers, each of 4 workers answers between 20 and 30 % of the requests.

    The image takes a worker longer than the kernel needs to schedule each process once.
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
    """On SIGHUP, the successor serves before the only worker stops, for Envoy and for direct clients."""
    with running_stack(tmp_path / "logs", "--workers=1") as one:
        before = one.workers()[0]
        with Load(one.url, face_file, 2) as load:
            load.wait_for_more(5)
            one.supervisors()[0].send_signal(signal.SIGHUP)
            direct, refused = 0, []
            while not gone(before):  # each request on a new connection
                with grpc.insecure_channel(one.shared) as channel:
                    image = infer_pb2.Image(raw_data=face_file)
                    try:
                        answer = infer_pb2_grpc.InferenceStub(channel).Predict(image, timeout=60, wait_for_ready=True)
                    except grpc.RpcError as error:
                        # gRPC cancels a call that arrives while its server closes.
                        refused.append(error.code())
                        continue
                assert len(answer.results) == 1
                direct += 1
            # This can happen once. Envoy sends no request then; direct clients have to retry.
            assert refused in ([], [grpc.StatusCode.CANCELLED], [grpc.StatusCode.UNAVAILABLE])
            load.wait_for_more(20)
        assert load.lost() == {}
        assert direct > 5
