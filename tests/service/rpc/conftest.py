from __future__ import annotations

from pathlib import Path

import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from tests.service.interceptors.keyed import key_file_text


@pytest.fixture
def admin_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    """Settings with an admin key, a plain one, and one that is not in the file."""
    path = tmp_path / "keys.toml"
    path.write_text(key_file_text({"admin": "admin = true", "plain": ""}))
    path.chmod(0o600)
    monkeypatch.setenv("RAPPORT_API_KEYS", "of-settings")
    return load(ServiceSettings, ["--grpc-port", "0", "--api-keys-file", str(path)])
