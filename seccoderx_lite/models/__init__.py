"""One base model in memory, its adapters, text generation, and the estimate of GPU memory.

Uses recipe and core, and knows nothing of tasks, judge, rewards or training. Besides the export
stage, which merges, this is the only room that uses PEFT and unsloth.
"""
