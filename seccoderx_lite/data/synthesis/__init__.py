"""Makes tasks from vulnerable code; `stages.synth` has the order of the stages."""
