"""What the libraries underneath are told before they are used."""

from __future__ import annotations

import os
from typing import Any


def use_one_thread() -> None:
    """Use one torch thread in a process, unless OMP_NUM_THREADS says otherwise: small models have no work for more.

    Two threads of which one shares its core with a busy neighbour run several times slower than one.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def quiet_libraries() -> None:
    """Keep the progress bars and notices of transformers and data sets out of what a person reads."""
    import warnings

    import datasets
    import transformers

    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")
