"""Inverse constitutional AI (Findeis et al. 2024, arXiv 2406.06560): from labels to the principles behind them.

Pairs are read (`preferences`), a model proposes rules that would explain them (`proposals`), a judge votes by each
rule, a small combiner chooses (`combine`), and what it came to is measured on held-out pairs, beside baselines
(`reconstruct`).
"""
