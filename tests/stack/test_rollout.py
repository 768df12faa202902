"""A rollout of all tiers with the numbers of the Kubernetes manifests, on a stand-in for a cluster."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT, TIERS, render
from tests.stack.cluster import StandInCluster, running_cluster
from tests.stack.compose import ComposeStack, worker_ids
from tests.stack.load import GrpcLoad, Load
from tests.stack.running import wait_for

REPLICAS = 2


@pytest.fixture(scope="module")
def cluster(compose: ComposeStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInCluster]:
    """A cluster with two pods per tier, as in the base."""
    del compose  # requested because it needs a container engine
    folder: Path = tmp_path_factory.mktemp("cluster")
    folder.chmod(0o755)
    with running_cluster(render(ROOT / "deploy/k8s"), folder, REPLICAS) as found:
        yield found


def wait_until_settled(cluster: StandInCluster, image: bytes) -> None:
    """Wait until new callers lose nothing: Envoy batches changes of hosts for up to a second."""

    def settled() -> bool:
        with Load(f"http://{cluster.edge}", image, 4) as load:
            load.wait_for_more(100)
        return not load.lost()

    wait_for(settled, "the cluster answers")


def test_every_pod_is_replaced_and_nothing_is_lost(cluster: StandInCluster, face_file: bytes) -> None:
    """All three tiers roll at once, as after applying a new version, under load over HTTP and gRPC."""
    wait_until_settled(cluster, face_file)
    before = set(cluster.pods)
    with Load(f"http://{cluster.edge}", face_file, 4) as load, GrpcLoad(cluster.edge, face_file, 2) as grpc_load:
        load.wait_for_more(200)
        with ThreadPoolExecutor(len(TIERS)) as pool:
            list(pool.map(cluster.roll, TIERS))
        load.wait_for_more(200)
    assert load.lost() == {}
    assert grpc_load.lost() == {}
    assert grpc_load.count
    assert len(cluster.pods) == len(TIERS) * REPLICAS
    assert not before & set(cluster.pods)
    assert sorted((found.tier, found.exit_code, found.out_of_memory) for found in cluster.endings) == sorted(
        (tier, 0, False) for tier in TIERS for _ in range(REPLICAS)
    )
    assert {name: found["failed_liveness"] for name, found in cluster.status().items()} == dict.fromkeys(
        cluster.pods, 0
    )
    answered = set(load.by_worker())
    assert all(worker_ids(pod.name) & answered for pod in cluster.of("inference")), "the new pods answer"


def test_other_pods_take_over_from_a_lost_node(cluster: StandInCluster, face_file: bytes) -> None:
    """Without a gateway or an inference pod nothing is lost; without an Envoy, only its connections are lost."""
    wait_until_settled(cluster, face_file)
    lost = {tier: cluster.of(tier)[0] for tier in TIERS}
    with Load(f"http://{cluster.edge}", face_file, 4) as load:
        load.wait_for_more(50)
        cluster.cut_off(lost["inference"])
        cluster.cut_off(lost["web"])
        wait_for(lambda: not cluster.status()[lost["web"].name]["ready"], "the loss is noticed")
        load.wait_for_more(400)
    assert load.lost() == {}
    cluster.cut_off(lost["envoy"])
    wait_until_settled(cluster, face_file)
