"""Sign the seal of a session with an SSH key, and check such a signature: both are done by ``ssh-keygen``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from learning_signal.ledger.errors import LedgerError

NAMESPACE = "learning-signal-seal"
"""A signature for another purpose does not count."""


def statement(session: str, seal: str) -> bytes:
    """What is signed."""
    return f"session {session} seal {seal}\n".encode()


def sign(session: str, seal: str, key: Path, to: Path) -> None:
    """Write the signature of a seal, made with the private key (or the public one of an agent), to ``to``.

    Raises:
        LedgerError: there is no ``ssh-keygen``, or it refuses.
    """
    done = _ssh_keygen(["-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE], statement(session, seal))
    try:
        to.write_bytes(done)
    except OSError as error:
        raise LedgerError(f"The signature cannot be written to {to} ({error.strerror}); give another --to.") from error


def check_signature(session: str, seal: str, signature: Path, signers: Path, signer: str) -> None:
    """Check that ``signer`` signed this seal; ``signers`` is a file in the format of ``allowed_signers``.

    Raises:
        LedgerError: the signature is another one's or of something else, or there is no ``ssh-keygen``.
    """
    arguments = ["-Y", "verify", "-q", "-f", str(signers), "-I", signer, "-n", NAMESPACE, "-s", str(signature)]
    _ssh_keygen(arguments, statement(session, seal))


def _ssh_keygen(arguments: list[str], text: bytes) -> bytes:
    try:
        done = subprocess.run(["ssh-keygen", *arguments], input=text, capture_output=True, timeout=120)
    except FileNotFoundError as error:
        raise LedgerError("There is no ssh-keygen on this machine; install OpenSSH.") from error
    except subprocess.TimeoutExpired as error:
        raise LedgerError("ssh-keygen gave no answer in two minutes; give a key that it can use.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise LedgerError(f"ssh-keygen refused: {said[-1] if said else 'without a word'}.")
    return done.stdout
