"""Vulnerable code in, tasks out: the parts that the stage `synth` puts in order."""
