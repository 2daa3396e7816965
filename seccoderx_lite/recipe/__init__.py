"""What a run is asked to do: one YAML file, one strict pydantic model, all errors in one message.

Uses core only. Must not import torch, so that an invalid recipe is rejected at once.
"""
