"""Agents read, reason and recommend. They never write a plant value, sign, release or change a limit (agents.md)."""
