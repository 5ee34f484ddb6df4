"""Fixtures of the tests with hostile answers."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("KLING"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KLING_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
