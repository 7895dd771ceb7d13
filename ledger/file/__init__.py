"""The file of a ledger: while another process locks it, when it is lost under a session, and when it is damaged."""
