"""Acts: a recipe becomes a plan, a plan is walked, finished rows become a dataset."""
