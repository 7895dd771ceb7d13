"""llama.cpp's own server (the package ``xllamacpp``) on a loopback port, with the model of ``tiny_model``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONTEXT = 32768
"""Tokens of the server's context: what a session needs."""


@contextmanager
def llama_server(folder: Path, seed: int = 0, context: int = CONTEXT) -> Iterator[str]:
    """The address of a server in a child process, which ends with the block; model and log are in ``folder``."""
    from tests.support.tiny_model import write_model

    model = folder / "tiny.gguf"
    write_model(model, seed)
    command = [sys.executable, "-m", "tests.support.llama_server", str(model), str(seed), str(context)]
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as child,
    ):
        assert child.stdin is not None and child.stdout is not None
        try:
            address = child.stdout.readline().strip()
            assert address, f"the server did not start: {(folder / 'server.log').read_text()[-2000:]}"
            yield address
        finally:
            child.stdin.close()  # what it waits for
            child.kill()


def _serve(model: str, seed: int, context: int) -> None:
    """Serve until standard input ends: with the process that wants the server, however that ends."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = model, context, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = params.fit_params = params.ui = False
    params.cache_ram_mib = 64
    sampling = params.sampling
    sampling.seed, sampling.temp = seed, 1.0
    sampling.top_k, sampling.top_p, sampling.min_p = 0, 1.0, 0.0  # no token is left out
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
