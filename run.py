"""The command line: parse, wire, print. ``python run.py``, ``python -m learning_signal`` and ``learning-signal`` are
one program, which calls itself as it was started.

Exit codes: 0 done, 1 the session failed or a check found errors, 2 bad input, 4 paused, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence

if sys.platform == "win32":
    sys.exit("error: Found Windows, expected Linux or macOS: run this program in WSL (Windows Subsystem for Linux).")
if __name__ == "__main__" and not sys.flags.safe_path:
    # Python puts the folder of a script before everything else: its agents/ and tools/ would hide a user's.
    del sys.path[0]
try:
    import typer
    from typer.exceptions import TyperException

    from learning_signal.commands import (
        answering,
        backends,
        environments,
        outside,
        policies,
        replay,
        session,
        study,
        training,
        viewing,
        whatif,
    )
    from learning_signal.commands.log import exporting, pruning, verification
    from learning_signal.ledger.wording import program
    from learning_signal.viewer.cli import across_commands, browse_command, log_commands, recover_command
    from learning_signal.viewer.cli.options import Version
    from learning_signal.viewer.cli.streams import prepare_streams
    from learning_signal.viewer.cli.terminal import (
        BAD_INPUT,
        STOPPED,
        err,
        fail,
        for_a_user,
        go_on,
        keep_for_json,
        log_to,
        show_traceback,
        silence,
        tell,
    )
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print(
        f"error: {missing.name} is not installed for {sys.executable}, expected this program and what it needs: run "
        f"'make session', or 'python -m pip install -e .', in {os.path.dirname(os.path.abspath(__file__))}.",
        file=sys.stderr,
    )
    sys.exit(2)

COMMANDS: dict[str, Callable[..., object]] = {
    "session": session.session,
    "resume": session.resume,
    "replay": replay.replay,
    "approve": answering.approve,
    "reject": answering.reject,
    "say": answering.say,
    "counterfactual": whatif.counterfactual,
    "ab": whatif.ab,
    "mcp": outside.mcp,
    "train": training.train,
    "study": study.study,
    "export": policies.export,
    "play": policies.play,
    "check-env": environments.check_env,
    "tasks": environments.tasks,
    "backends": backends.backends,
    "explain": log_commands.explain,
    "compare": log_commands.compare,
    "view": viewing.view,
}
LOG: dict[str, Callable[..., object]] = {
    "list": log_commands.log_list,
    "show": log_commands.log_show,
    "search": log_commands.log_search,
    "tail": across_commands.log_tail,
    "scan": across_commands.log_scan,
    "stats": across_commands.log_stats,
    "diff": across_commands.log_diff,
    "plot": log_commands.log_plot,
    "forecasts": log_commands.log_forecasts,
    "export": exporting.log_export,
    "browse": browse_command.log_browse,
    "verify": verification.log_verify,
    "backup": across_commands.log_backup,
    "recover": recover_command.log_recover,
    "prune": pruning.log_prune,
    "seal": verification.log_seal,
}
"""The commands of ``log``."""
READING = {"tasks", "backends", "explain", "compare", "log", "approve", "reject", "say", "mcp", "view"}
"""Commands that start at once: they log nothing, or see to it themselves."""


def prepare(context: typer.Context, version: Version = False) -> None:
    """Show what is logged as one line, not as loguru would, before anything is loaded that logs."""
    if context.invoked_subcommand not in READING:
        log_to(err)


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """The program with the command that ``arguments`` name, or with every command where they name none.

    To read the options of all takes as long as to list a log.
    """
    words = [each for each in arguments if not each.startswith("-")][:2]
    app = typer.Typer(
        help="LLM agents repair the reward shaping of a MARL run; only validated changes are promoted.",
        epilog="'python run.py', 'learning-signal' and 'python -m learning_signal' are the same program.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(prepare)
    named = words[0] if words and words[0] in (*COMMANDS, "log") else None
    _add(app, COMMANDS, named)
    if named in ("log", None):
        log = typer.Typer(help="Read the log: list, show, search or verify sessions.")
        app.add_typer(log, name="log")
        _add(log, LOG, words[1] if words[1:] and words[1] in LOG else None)
    return app


def _add(app: typer.Typer, commands: Mapping[str, Callable[..., object]], named: str | None) -> None:
    """Add the one that is named, or all."""
    for name, function in commands.items():
        if named in (name, None):
            app.command(name)(function)


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    prepare_streams()
    given = sys.argv[1:] if arguments is None else arguments
    if "--json" in given:
        keep_for_json()
    go_on(False)
    try:
        app = application(given)
        result = app(args=arguments, standalone_mode=False, prog_name=program())
        return result if isinstance(result, int) else 0
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):
            return BAD_INPUT
        message = re.sub(r"[.;]? Did you mean (.+)\?$", r" (did you mean \1?)", message.rstrip("."))
        return fail(f"{message}; '{_command_of(error)} --help' lists what is known.")
    except (KeyboardInterrupt, typer.Abort):
        err.print()
        return STOPPED
    except (BrokenPipeError, SystemExit) as error:
        # The reader of a pipe, such as head, has seen enough; click exits with 1 where that is the help.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        silence()
        return 0
    except Exception as error:
        sentence = for_a_user(error) or _unreadable(error, given)
        tell(getattr(error, "details", ()))
        if sentence is None:
            fail(f"This is a fault of the program, not of your input ({type(error).__name__}); please report it.")
            raise
        return fail(sentence)


def _unreadable(error: Exception, arguments: Sequence[str]) -> str | None:
    """Why an argument that is no text could not be used; None where ``error`` is about something else."""
    if not isinstance(error, UnicodeEncodeError):
        return None
    for word in arguments:
        if any("\ud800" <= character <= "\udfff" for character in word):
            shown = ascii(word) if len(word) <= 60 else f"{ascii(word[:57])}..."
            return f"Found the argument {shown}, which is not UTF-8, expected text: type it anew."
    return None


def _command_of(error: TyperException) -> str:
    """The command whose options or arguments ``error`` is about."""
    context = getattr(error, "ctx", None)
    return program() if context is None else context.command_path


def main() -> None:
    """The console script."""
    try:
        sys.exit(run())
    except Exception:  # noqa: BLE001 - a fault of the program, which ``run`` has named: its text may come from a log
        show_traceback()
        sys.exit(1)


if __name__ == "__main__":
    main()
