"""What a run is asked for: one YAML file, one strict pydantic model, all faults in one message.

Uses core only. Must not import torch, so that a wrong recipe is refused at once.
"""
