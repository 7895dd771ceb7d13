"""Does a supervised session learn what its sparse twin does not, at equal total env steps? Several seeds.

python -m bench.first_light [--seeds 5] [--parallel 2] [-- SESSION OPTIONS]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scipy.stats import t

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... (default 5)")
    parser.add_argument("--parallel", type=int, default=2, help="sessions at a time, one worker each (default 2)")
    parser.add_argument("options", nargs="*", help="options of 'run.py session', after --")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.parallel) as pool:
        jobs = [
            pool.submit(session, seed, Path(folder) / str(seed), arguments.options) for seed in range(arguments.seeds)
        ]
        with console.status("sessions are running"):
            outcomes = []
            for seed, job in enumerate(jobs):
                outcomes.append(job.result())
                console.print(f"seed {seed}: sparse return {outcomes[-1]['after']['sparse_return']:.2f}", style="dim")
    console.print(table(outcomes))
    console.print(summary(outcomes))


def session(seed: int, folder: Path, options: list[str]) -> dict:
    """The outcome of one session with its twin; raises ``RuntimeError`` with its error if it does not finish."""
    command = [
        sys.executable, "run.py", "session", "--seed", str(seed), "--twin", "--json", "--workers", "1",
        "--ledger", str(folder / "ledger.db"), "--store", str(folder / "segments"), *options,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"seed {seed} ended with exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def table(outcomes: list[dict]) -> Table:
    shown = Table(title="sparse return of HEAD and of the sparse twin at equal total env steps", title_justify="left")
    for name in ("seed", "promoted", "rejected", "before", "HEAD", "twin", "main steps", "total steps"):
        shown.add_column(name, justify="right")
    for seed, outcome in enumerate(outcomes):
        shown.add_row(
            str(seed), str(len(outcome["promoted"])), str(len(outcome["rejected"])),
            f"{outcome['before']['sparse_return']:.3f}", f"{outcome['after']['sparse_return']:.2f}",
            f"{outcome['twin']['sparse_return']:.3f}", f"{outcome['after']['env_steps']:,}",
            f"{outcome['after']['total_env_steps']:,}",
        )  # fmt: skip
    return shown


def summary(outcomes: list[dict]) -> str:
    """Mean paired difference HEAD - twin with its 95 % Student-t interval."""
    differences = [each["after"]["sparse_return"] - each["twin"]["sparse_return"] for each in outcomes]
    n = len(differences)
    mean = sum(differences) / n
    if n < 2:
        return f"HEAD - twin: {mean:.2f} (one seed: no interval)"
    deviation = (sum((each - mean) ** 2 for each in differences) / (n - 1)) ** 0.5
    half = t.ppf(0.975, n - 1) * deviation / n**0.5
    both = sum(bool(each["promoted"]) and bool(each["rejected"]) for each in outcomes)
    above = sum(each > 0 for each in differences)
    return (
        f"HEAD - twin: {mean:.2f} [{mean - half:.2f}, {mean + half:.2f}], n = {n}, Student-t 95 %; "
        f"above in {above} of {n}; a promotion and a rejection in {both} of {n}"
    )


if __name__ == "__main__":
    main()
