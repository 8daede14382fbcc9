"""Objectives of service: the file that states them, the rules made from it, and what is left of their budgets."""
