"""What docs/deploy.md tells to type at a cluster, by a real kubectl; the cluster only remembers."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from conformance.servers import ROOT
from tests.papers.blocks import DOCS, block

from .apiserver import api_server

if TYPE_CHECKING:
    from pathlib import Path

KUBECTL = shutil.which("kubectl")


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl here")
def test_what_the_page_says_brings_a_pair_up(tmp_path: Path) -> None:
    with api_server() as server:
        (tmp_path / "kubeconfig").write_text(server.kubeconfig)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", block(DOCS / "deploy.md", "Kubernetes")],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "KUBECONFIG": str(tmp_path / "kubeconfig"),
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        secret = server.kept("Secret", "pymcd")
        pods = server.kept("StatefulSet", "pymcd")["spec"]["template"]
        assert len(server.objects) == 5
    assert done.stdout.splitlines() == [
        "secret/pymcd created",
        "service/pymcd-peers created",
        "service/pymcd created",
        "poddisruptionbudget.policy/pymcd created",
        "statefulset.apps/pymcd created",
        "statefulset rolling update complete 2 pods at revision pymcd-1...",
        "statefulset.apps/pymcd restarted",
    ]
    assert pods["spec"]["volumes"][0]["secret"]["secretName"] == secret["metadata"]["name"]
    assert len(base64.b64decode(base64.b64decode(secret["data"]["secret"]))) == 32
    assert "kubectl.kubernetes.io/restartedAt" in pods["metadata"]["annotations"]
