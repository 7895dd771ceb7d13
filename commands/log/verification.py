"""``log verify`` and ``log seal``: whether a log is as it was written, and whose word that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger
from learning_signal.viewer.cli.terminal import err, log_to, out, plain_data, show_json

SIGNATURE = Annotated[Path | None, typer.Option(metavar="FILE", help="Also check this signature of --seal.")]


def log_verify(
    ledger: Ledger = LEDGER,
    seal: Annotated[str | None, typer.Option(metavar="SEAL", help="Whether this is the record with the seal.")] = None,
    signature: SIGNATURE = None,
    signers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who may sign: an allowed_signers file of ssh-keygen.")
    ] = None,
    signer: Annotated[str | None, typer.Option(metavar="NAME", help="Who is said to have signed it.")] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Also compare the checkpoints in this folder of segments.",
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Whether this exported policy is one of the record.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Recompute every hash, chain, statistic and mark of a log; exit code 1 where something does not agree.

    Words of agents that the record does not support are listed as notices: they are no damage.
    """
    from learning_signal.ledger.chain.seal import sealed_by
    from learning_signal.ledger.chain.signing import check_signature
    from learning_signal.ledger.errors import LedgerError
    from learning_signal.ledger.read.checks.checked import checked
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.read.records import Finding
    from learning_signal.ledger.read.verify import notices, verify
    from learning_signal.marl.gate.recompute import recompute
    from learning_signal.marl.segments.segment import SegmentStore
    from learning_signal.marl.segments.version import code_version
    from learning_signal.tools.claims.check import recheck
    from learning_signal.tools.plan.settings import session_rules
    from learning_signal.tools.training.kept import hold_checkpoints, hold_policy
    from learning_signal.viewer.reports.log import render_findings

    log_to(err)
    if (signature is None) != (signers is None) or (signature is None) != (signer is None) or (signature and not seal):
        raise LedgerError("A signature needs all of --seal, --signature, --signers and --signer; give them together.")
    with Reader.open(ledger) as reader:
        sealed = None if seal is None else sealed_by(reader.rows, seal)
        findings = verify(reader, recompute, session_rules)
        unsupported, looked_at = notices(reader, recheck), checked(reader, code_version())
        kept = None if store is None else hold_checkpoints(reader, SegmentStore(store))
        exported = None if policy is None else hold_policy(reader, policy)
    if seal is not None and sealed is None:
        findings.insert(
            0, Finding("seal", seal, "no session of this log has it: this is not the record that was sealed")
        )
    if sealed is not None and signature is not None and signers is not None and signer is not None:
        try:
            check_signature(sealed.session, str(seal), signature, signers, signer)
        except LedgerError as error:
            findings.insert(0, Finding("signature", str(signature), str(error)))
    for held in filter(None, (kept, exported)):
        findings += held.findings
    if kept is not None:
        looked_at = looked_at.with_files(kept.checkpoints, kept.unchecked)
    belongs = None if exported is None else exported.belongs
    if as_json:
        data = {"findings": findings, "notices": unsupported, "checked": looked_at, "sealed": sealed, "policy": belongs}
        show_json({name: None if value is None else plain_data(value) for name, value in data.items()})
    else:
        words = [] if sealed is None else [sealed.text(str(seal))]
        out.print(render_findings(ledger, findings, unsupported, looked_at, [*words, *filter(None, [belongs])]))
    return 1 if findings else 0


def log_seal(
    session: Annotated[str, typer.Argument(help="Session id, its beginning, or 'latest'.")] = "latest",
    ledger: Ledger = LEDGER,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign the seal with this SSH key, by ssh-keygen.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the signature goes; SESSION.seal.sig without it.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Print the seal of a session: a fingerprint of everything that it wrote; sign it."""
    from learning_signal.ledger.chain.signing import sign as signed
    from learning_signal.ledger.errors import LedgerError
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.links import refuse_link

    with Reader.open(ledger) as reader:
        row = reader.session(session)
    if row.seal is None:
        raise LedgerError(f"Session {row.id} has no chain: an earlier version wrote the log {ledger}; resume it first.")
    place = None
    if sign is not None:
        place = refuse_link(Path(f"{row.id}.seal.sig") if to is None else to)
        signed(row.id, row.seal, sign, place)
    if as_json:
        return show_json({"session": row.id, "seal": row.seal, "signature": None if place is None else str(place)})
    out.print(row.seal if place is None else f"{row.seal}  signed: {place}")
    return 0
