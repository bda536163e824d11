"""Coupled-GRPO's parts: problems, rollouts, their grades, updates, and what is measured (training/stages/grpo.py)."""
