"""The whole service on a GPU, over a stub of CUDA: it starts, answers, fails and comes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bench.server import free_ports, rapport
from tests.support.cuda_stub import build, isolation
from tests.support.tiny_model import tiny_folder

pytestmark = pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle()))

# Kernels do nothing, so all logits are 0. Candidates chosen on the device would be none: typical_p
# has whole rows brought to the host.
QUESTION = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "the"}],
    "max_tokens": 5,
    "typical_p": 0.5,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Processes that are started now run over the stub, with memory that reads as zero."""
    for name, value in isolation.environment(fill=0).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_gpu_that_does_not_do_is_refused_in_so_many_lines(
    folder: Path, stub: pytest.MonkeyPatch
) -> None:
    """Asked for the GPU, the service does not start, says all that is wrong, and prints nothing."""
    stub.setenv("CUDA_STUB_CAPABILITY", "10.0")
    stub.setenv("CUDA_STUB_DRIVER", "12080")
    flags = ["--model-folder", str(folder), "--provider", "cuda", "--metrics-port", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "rapport.service", *flags, "--grpc-port", str(*free_ports(1))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    driver, device, last = ended.stderr.splitlines()[-3:]
    assert "the NVIDIA driver is for CUDA 12.8" in driver
    assert "compute capability 10.0" in device
    assert last.endswith("provider cuda cannot run here, for 2 reasons")


def test_chats_are_answered_on_the_gpu_and_again_when_it_was_lost(
    folder: Path, stub: pytest.MonkeyPatch
) -> None:
    """The service runs on the GPU; after an error that sticks it ends, and starts again."""
    stub.setenv("CUDA_STUB_FAIL", "graph_launch:700@30")
    url = "/v1/chat/completions"
    with rapport(model_folder=folder, provider="cuda", slots=4) as (server, target):
        with httpx.Client(base_url=str(target.rest), trust_env=False, timeout=30) as client:
            first = client.post(url, json={**QUESTION, "n": 3})
            assert (first.status_code, len(first.json()["choices"])) == (200, 3)
            statuses = set()
            while 503 not in statuses:
                statuses.add(client.post(url, json=QUESTION).status_code)
            assert statuses <= {200, 503}
            while client.get("/health").status_code != 200:
                pass
            assert client.post(url, json=QUESTION).status_code == 200
        log = server.log()
    assert "serving tiny (float16) on cuda" in log
    assert "GPU memory: 4 slots of 128 tokens" in log
    assert "the GPU is lost: " in log
    assert "an illegal memory access was encountered" in log
    assert "it starts again" in log
    assert "onnxruntime:" not in log, "ONNX Runtime writes to the log by itself"
