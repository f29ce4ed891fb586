"""Transports: how a command is run at a site. The contract is `base.Transport`."""
