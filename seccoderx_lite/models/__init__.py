"""One base model in memory, the adapters on it, and everything that generates text.

Uses recipe, sandbox and core. The only room that touches PEFT, bitsandbytes and unsloth (besides
the export stage, which merges).
"""
