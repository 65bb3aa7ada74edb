"""Hindsight: what an edit would move and did move, what each principle does, whether its cases hold."""
