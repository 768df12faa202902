"""The Pod Security Standard "restricted", field by field, and what goes beyond it.

Source: the controls on the page Pod Security Standards of the Kubernetes documentation, baseline and restricted.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.deploy.manifests import TIERS, Manifests, flatten

Spec = dict[str, Any]

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SAFE_SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"}
SECCOMP = {"RuntimeDefault", "Localhost"}


def violations(spec: Spec) -> set[str]:
    """Return the fields of a pod that "restricted" does not allow."""
    pod = spec.get("securityContext", {})
    found = {name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)}
    found |= {f"volumes: {set(volume) - {'name'}}" for volume in spec.get("volumes", []) if not set(volume) & VOLUMES}
    found |= {"sysctls" for sysctl in pod.get("sysctls", []) if sysctl["name"] not in SAFE_SYSCTLS}
    containers = [*spec["containers"], *spec.get("initContainers", []), *spec.get("ephemeralContainers", [])]
    for container in containers:
        own = container.get("securityContext", {})
        found |= _of_context(own) | _of_context(pod)
        capabilities = own.get("capabilities", {})
        checks = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "runAsNonRoot": own.get("runAsNonRoot", pod.get("runAsNonRoot")) is True,
            "runAsUser": own.get("runAsUser", pod.get("runAsUser", 1)) != 0,
            "seccompProfile": own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") in SECCOMP,
            "capabilities.drop": "ALL" in capabilities.get("drop", []),
            "capabilities.add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "privileged": not own.get("privileged"),
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
            "host of a probe": not _names_a_host(container),
        }
        found |= {name for name, holds in checks.items() if not holds}
    return found


def _of_context(context: Spec) -> set[str]:
    """Check the fields that the securityContext of a pod and that of a container share."""
    linux = context.get("seLinuxOptions", {})
    checks = {
        "seLinuxOptions": not (linux.get("user") or linux.get("role"))
        and linux.get("type", "") in ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"),
        "appArmorProfile": context.get("appArmorProfile", {"type": "RuntimeDefault"})["type"] != "Unconfined",
        "hostProcess": not context.get("windowsOptions", {}).get("hostProcess"),
    }
    return {name for name, holds in checks.items() if not holds}


def _names_a_host(container: Spec) -> bool:
    hooks = [container.get(name) for name in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle")]
    return any(isinstance(part, dict) and "host" in part for part in flatten(hooks))


@pytest.mark.parametrize("tier", TIERS)
def test_pods_are_restricted(overlay: Manifests, tier: str) -> None:
    """As the namespace requires."""
    assert violations(overlay.pod(tier)["spec"]) == set()


def test_the_namespace_requires_restricted_pods(overlay: Manifests) -> None:
    """And warns about other pods."""
    labels = overlay.one("Namespace", "facet")["metadata"]["labels"]
    for mode in ("enforce", "warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_pods_are_restricted_beyond_the_standard(overlay: Manifests) -> None:
    """A read-only file system, no token, no variables of other services, a numeric user, and no roles."""
    for tier in TIERS:
        spec = overlay.pod(tier)["spec"]
        assert overlay.container(tier)["securityContext"]["readOnlyRootFilesystem"] is True
        assert spec["automountServiceAccountToken"] is False
        assert overlay.one("ServiceAccount", tier)["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsUser"] > 0
    assert not overlay.of("Role")
    assert not overlay.of("ClusterRole")
    assert not overlay.of("Secret")


def _break_context(**fields: Any) -> Callable[[Spec], None]:
    return lambda spec: spec["containers"][0]["securityContext"].update(fields)


def _break_pod(**fields: Any) -> Callable[[Spec], None]:
    return lambda spec: spec.update(fields)


@pytest.mark.parametrize(
    ("field", "break_it"),
    [
        ("hostNetwork", _break_pod(hostNetwork=True)),
        ("volumes: {'hostPath'}", _break_pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
        ("sysctls", lambda spec: spec["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}])),
        ("allowPrivilegeEscalation", lambda spec: spec["containers"][0].pop("securityContext")),
        ("runAsNonRoot", lambda spec: spec["securityContext"].pop("runAsNonRoot")),
        ("runAsUser", _break_context(runAsUser=0)),
        ("seccompProfile", lambda spec: spec["securityContext"].pop("seccompProfile")),
        ("capabilities.drop", _break_context(capabilities={"drop": ["NET_RAW"]})),
        ("capabilities.add", _break_context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
        ("privileged", _break_context(privileged=True)),
        ("procMount", _break_context(procMount="Unmasked")),
        ("seLinuxOptions", _break_context(seLinuxOptions={"type": "spc_t"})),
        ("appArmorProfile", _break_context(appArmorProfile={"type": "Unconfined"})),
        ("hostProcess", _break_context(windowsOptions={"hostProcess": True})),
        ("hostPort", lambda spec: spec["containers"][0]["ports"][0].update(hostPort=8080)),
        ("host of a probe", lambda spec: spec["containers"][0]["livenessProbe"]["httpGet"].update(host="10.0.0.1")),
    ],
)
def test_each_field_is_checked(base: Manifests, field: str, break_it: Callable[[Spec], None]) -> None:
    """A pod that violates a field is reported with its name."""
    spec = deepcopy(base.pod("web")["spec"])
    break_it(spec)
    assert field in violations(spec)
