"""Reward components and the composite made of them: pure functions, no model, no sandbox."""
