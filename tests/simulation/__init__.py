"""The real exchange on a virtual clock: simulated provider and network, processes that die, a ledger that fails."""
