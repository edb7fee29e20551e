from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tidemill.config import Loaded, load
from tidemill.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that files are written into and named from."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load_text(folder: Path) -> Callable[..., Loaded]:
    """Load ``tidemill.toml`` with this text, in an environment of its own."""

    def run(text: str | bytes, environ: Mapping[str, str] | None = None) -> Loaded:
        raw = text if isinstance(text, bytes) else text.encode()
        (folder / "tidemill.toml").write_bytes(raw)
        return load(Path("tidemill.toml"), environ=environ if environ is not None else {"TZ": "UTC"})

    return run


@pytest.fixture
def faults_of(load_text: Callable[..., Loaded]) -> Callable[..., list[str]]:
    """Load a text that is wrong and return the lines a user sees."""

    def run(text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, environ)
        return str(caught.value).splitlines()

    return run
