"""``log verify``: the one command on a log that needs the gate."""

from __future__ import annotations

from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger
from learning_signal.viewer.cli.terminal import err, log_to, out, plain_data, show_json


def log_verify(ledger: Ledger = LEDGER, as_json: AsJson = False) -> int:
    """Recompute every hash, statistic and mark of a log; exit code 1 where something does not agree.

    Words of agents that the record does not support are listed as notices: they are no damage.
    """
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.read.verify import notices, verify
    from learning_signal.marl.gate.recompute import recompute
    from learning_signal.tools.claims.check import recheck
    from learning_signal.tools.plan.settings import session_rules
    from learning_signal.viewer.reports.log import render_findings

    log_to(err)
    with Reader.open(ledger) as reader:
        findings = verify(reader, recompute, session_rules)
        unsupported = notices(reader, recheck)
    if as_json:
        show_json({"findings": plain_data(findings), "notices": plain_data(unsupported)})
    else:
        out.print(render_findings(ledger, findings, unsupported))
    return 1 if findings else 0
