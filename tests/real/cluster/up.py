"""Starts a Kubernetes cluster without containers on 127.0.0.1, for tests, and ends it with itself.

    python -m tests.real.cluster.up FOLDER [--workloads] [--istio] [--port 16000]

Always: etcd and kube-apiserver (RBAC on, audit log at Metadata level), Istio's and the Gateway API's CRDs,
the namespaces `production` and `istio-system`. --workloads: controllers for Deployments, a scheduler and one
simulated node, so that Deployments become available and their pods Running without any container being run.
Pods get no EndpointSlices (their addresses are not real). --istio: istiod. An Envoy asks it for routes at the
gRPC port printed.

Needs only the folder that ./install filled (CANARYD_PARTS). Prints one JSON line when ready: {"kubeconfig":
..., "server": ..., "token": ..., "audit_log": ..., "istiod_grpc": ..., "istiod_http": ..., "pids": {...}};
then obeys `stop NAME`, `start NAME`, `freeze NAME`, `thaw NAME` on standard input, one answer a line (so
`stop kube-apiserver` is an outage with everything else left up), and ends all its processes on SIGTERM,
SIGINT or at the end of standard input. Logs are FOLDER/*.log. FOLDER may be used again: etcd's data is kept,
so a restart is a restart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.real.cluster.processes import NotReady, Processes, Ready

ISTIO_ENV = {  # a plain Envoy has none of Istio's own filters, and there are no certificates to hand out
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_CERT_PROVIDER": "none",
    "ENABLE_CA_SERVER": "false",
    "INJECT_ENABLED": "false",
    "ENABLE_LEADER_ELECTION": "false",
    "PILOT_ENABLE_ALPHA_GATEWAY_API": "false",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
    "POD_NAMESPACE": "istio-system",
    "REVISION": "default",
}
MESH = {  # istiod's own retries would hide failures that a test counts
    "enableAutoMtls": False,
    "defaultProviders": {},
    "defaultHttpRetryPolicy": {"attempts": 0},
    "defaultConfig": {},
}
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
CONTROLLERS = (  # no endpoint controllers: the pods' loopback addresses may not stand in EndpointSlices
    "deployment-controller,replicaset-controller,namespace-controller,garbage-collector-controller,disruption-controller,job-controller"
)
STAGES = Path(__file__).with_name("pods.yaml")  # how simulated pods live


def answers(url: str) -> Ready:
    return lambda: urllib.request.urlopen(url, timeout=2).status == 200


class Cluster:
    def __init__(self, folder: Path, parts: Path, port: int) -> None:
        self.folder, self.bin, self.parts, self.port = folder, parts / "bin", parts, port
        folder.mkdir(parents=True, exist_ok=True)
        # kube-apiserver would wait for its watchers to leave, a minute or more; what etcd was told is
        # written, fsync or not.
        self.processes = Processes(folder, grace=1)
        self.server = f"https://127.0.0.1:{port}"
        tokens = folder / "tokens.csv"
        if not tokens.exists():
            tokens.write_text(f"{os.urandom(16).hex()},admin,admin,system:masters\n")
        self.token = tokens.read_text().split(",")[0]
        self.kubeconfig = folder / "kubeconfig"

    def api_is_ready(self) -> bool:
        request = urllib.request.Request(
            self.server + "/readyz", headers={"Authorization": f"Bearer {self.token}"}
        )
        context = ssl.create_default_context(cafile=str(self.folder / "certs/apiserver.crt"))
        return bool(urllib.request.urlopen(request, timeout=2, context=context).read() == b"ok")

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        command = [str(self.bin / "kubectl"), "--kubeconfig", str(self.kubeconfig), *args]
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
        if done.returncode:
            raise NotReady(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, document: dict[str, object]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def control_plane(self) -> None:
        etcd = f"http://127.0.0.1:{self.port + 1}"
        self.processes.start(
            "etcd",
            self.bin / "etcd",
            "--data-dir=etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{self.port + 2}",
            "--unsafe-no-fsync",
        )
        key = self.folder / "sa.key"
        if not key.exists():
            subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        (self.folder / "audit.yaml").write_text(json.dumps(AUDIT))
        self.processes.start(
            "kube-apiserver",
            self.bin / "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--cert-dir=certs",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--authorization-mode=RBAC",
            "--token-auth-file=tokens.csv",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key",
            # no token controller, no node lifecycle
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            "--audit-policy-file=audit.yaml",
            "--audit-log-path=audit.log",
            ready=self.api_is_ready,
        )
        self.processes.wait("kube-apiserver", self.api_is_ready)
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {
                                "server": self.server,
                                "certificate-authority": str(self.folder / "certs/apiserver.crt"),
                            },
                        }
                    ],
                    "users": [{"name": "admin", "user": {"token": self.token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                }
            )
        )
        for crds in sorted((self.parts / "crds").glob("*.yaml")):
            self.kubectl("apply", "--server-side", "-f", str(crds))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        for namespace in ("production", "istio-system"):
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def workloads(self) -> None:
        self.processes.start(
            "kube-controller-manager",
            self.bin / "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port + 3}",
            f"--controllers={CONTROLLERS}",
        )
        self.processes.start(
            "kube-scheduler",
            self.bin / "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port + 4}",
        )
        stages = self.folder / "stages.yaml"
        with stages.open("wb") as out:
            for part in (self.parts / "node.yaml", STAGES):
                out.write(b"---\n")
                with part.open("rb") as source:
                    shutil.copyfileobj(source, out)
        self.processes.start(
            "kwok",
            self.bin / "kwok",
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes",
            f"--config={stages}",
            f"--cidr=127.{1 + self.port // 100 % 250}.0.0/16",
            "--node-ip=127.0.0.1",
            f"--server-address=127.0.0.1:{self.port + 5}",
        )
        room = {"cpu": "10000", "memory": "10000Gi", "pods": "20000"}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "node-0", "labels": {"kubernetes.io/hostname": "node-0"}},
                "status": {"allocatable": room, "capacity": room},
            }
        )
        self.kubectl("wait", "--for=condition=Ready", "node/node-0", "--timeout=30s")

    def istio(self) -> None:
        mesh = self.folder / "mesh.yaml"
        mesh.write_text(json.dumps(MESH))
        http = f"127.0.0.1:{self.port + 6}"
        self.processes.start(
            "istiod",
            self.bin / "pilot-discovery",
            "discovery",
            f"--kubeconfig={self.kubeconfig}",
            f"--meshConfig={mesh}",
            f"--httpAddr={http}",
            f"--grpcAddr=127.0.0.1:{self.port + 7}",
            "--httpsAddr=",
            "--secureGRPCAddr=",
            f"--monitoringAddr=127.0.0.1:{self.port + 8}",
            "--ctrlz_port=0",
            env=ISTIO_ENV,
            ready=answers(f"http://{http}/ready"),
        )
        self.processes.wait("istiod", answers(f"http://{http}/ready"))

    def facts(self, istio: bool) -> dict[str, object]:
        return {
            "kubeconfig": str(self.kubeconfig),
            "server": self.server,
            "token": self.token,
            "audit_log": str(self.folder / "audit.log"),
            "istiod_http": f"127.0.0.1:{self.port + 6}" if istio else None,
            "istiod_grpc": f"127.0.0.1:{self.port + 7}" if istio else None,
            "pids": self.processes.pids,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workloads", action="store_true")
    parser.add_argument("--istio", action="store_true")
    parser.add_argument("--stay", action="store_true", help="do not end with standard input")
    parser.add_argument(
        "--port",
        type=int,
        default=16000,
        help="first of nine, a multiple of 100: the pods' network follows from it",
    )
    parser.add_argument(
        "--parts",
        type=Path,
        default=Path(os.environ.get("CANARYD_PARTS", "~/.cache/canaryd-parts")).expanduser(),
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    cluster = Cluster(options.folder.resolve(), options.parts.resolve(), options.port)
    try:
        cluster.control_plane()
        if options.workloads:
            cluster.workloads()
        if options.istio:
            cluster.istio()
        print(json.dumps(cluster.facts(options.istio)), flush=True)
        for line in sys.stdin:
            print(cluster.processes.obey(line), flush=True)
        if options.stay:
            signal.pause()
    except NotReady as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        pass
    finally:
        cluster.processes.stop_all()


if __name__ == "__main__":
    main()
