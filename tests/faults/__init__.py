"""Real processes and real faults: kill -9, SIGSTOP, lost answers, a ledger that goes away."""
