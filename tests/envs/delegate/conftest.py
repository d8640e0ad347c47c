from pathlib import Path
from typing import Any

import pytest

from tests.envs.delegate.small_data import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments of the environment: a corpus and questions about it."""
    folder: Path = tmp_path_factory.mktemp("delegate")
    return write_data(folder)
