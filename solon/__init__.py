"""Solon: a constitution and prompts in, AI-judged preference data out, a trained model at the end."""

__version__ = "0.1.0"
