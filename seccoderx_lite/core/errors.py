"""Every error the toolkit raises on purpose.

    SeccoderxError
    |-- RecipeError     (ValueError)     a recipe, an override or an argument breaks a rule
    |-- DataError       (ValueError)     a task or labelled-code file cannot be used
    |-- RunFolderError  (ValueError)     a run folder is locked, foreign or damaged
    |-- ModelError      (RuntimeError)   a base model, adapter or role is not what it must be
    |-- GeneratorError  (RuntimeError)   the generator of tasks cannot be asked further
    |-- JudgeError      (RuntimeError)   the judge failed: the completion stays unscored
    |-- SandboxError    (RuntimeError)   the sandbox failed: the completion stays unscored
    `-- RunStopped      (RuntimeError)   an alarm or an export gate ended the run on purpose

A message names the thing, the rule, the value received and the next step.
"""


class SeccoderxError(Exception):
    """Base of all errors below; catch it to catch everything the toolkit raises on purpose."""


class RecipeError(SeccoderxError, ValueError):
    """A recipe, override or command argument breaks a rule; all faults are in one message."""


class DataError(SeccoderxError, ValueError):
    """A file of tasks or labelled code is missing, empty, or lacks what is needed."""


class RunFolderError(SeccoderxError, ValueError):
    """A run folder belongs to another recipe, is in use, or is damaged."""


class ModelError(SeccoderxError, RuntimeError):
    """A base model, adapter or role is not what it must be."""


class GeneratorError(SeccoderxError, RuntimeError):
    """The generator of tasks refuses, stays silent or costs too much; its replies are kept."""


class JudgeError(SeccoderxError, RuntimeError):
    """The judge itself failed (never: it could not be convinced)."""


class SandboxError(SeccoderxError, RuntimeError):
    """The sandbox itself failed, or offers less isolation than was asked for."""


class RunStopped(SeccoderxError, RuntimeError):
    """An alarm threshold or an export gate ended the run on purpose."""
