"""What each principle of a run does: from its records, and from a small sample of further votes.

audit(Path("runs/latest"))          # audit.records: no call
await ballots(duels, ...)           # audit.ballots: every principle's vote on the same pairs
worth_a_look(done)                  # audit.remarks: what of it is worth a sentence
"""
