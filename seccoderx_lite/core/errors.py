"""Every error the toolkit raises on purpose.

    SeccoderxError
    |-- RecipeError     (ValueError)     a recipe, an override or an argument breaks a rule
    |-- DataError       (ValueError)     a task or labelled-code file cannot be used
    |-- RunFolderError  (ValueError)     a run folder is locked, damaged or of another recipe
    |-- ModelError      (RuntimeError)   a base model, an adapter or a role cannot be used
    |-- GeneratorError  (RuntimeError)   the generator of tasks cannot continue
    |-- JudgeError      (RuntimeError)   the judge failed: the completion stays unscored
    |-- SandboxError    (RuntimeError)   the sandbox failed: the completion stays unscored
    |-- RunStopped      (RuntimeError)   an alarm or an export gate ended the run on purpose
    `-- RunInterrupted  (RuntimeError)   Ctrl-C or a signal ended the run at a safe point

A message names the thing, the rule, the value received and the next step.
"""

_LONGEST_REASON = 300


def reason_of(error: BaseException) -> str:
    r"""Return what a library's error says, in one line.

    >>> reason_of(KeyError("r")), reason_of(ValueError("no such file\n\nSee the docs"))
    ("KeyError: 'r'", 'no such file See the docs')
    """
    text = " ".join(str(error).split())
    if not isinstance(error, OSError | ValueError) or not text:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


class SeccoderxError(Exception):
    """Base class of the errors below: catch it to catch every error raised on purpose."""


class RecipeError(SeccoderxError, ValueError):
    """A recipe, an override or a command argument breaks a rule; the message lists all of them."""


class DataError(SeccoderxError, ValueError):
    """A file of tasks or labelled code is missing or empty, or lacks required columns or values."""


class RunFolderError(SeccoderxError, ValueError):
    """A run folder belongs to another recipe, is used by another process, or is damaged."""


class ModelError(SeccoderxError, RuntimeError):
    """A base model, an adapter or a role is missing, damaged or does not match the others."""


class GeneratorError(SeccoderxError, RuntimeError):
    """The generator of tasks refuses requests, does not answer, or reaches its spending cap.

    Replies received before are kept, so the same command resumes.
    """


class JudgeError(SeccoderxError, RuntimeError):
    """The judge could not be run. Not raised for an unfavourable or unreadable verdict."""


class SandboxError(SeccoderxError, RuntimeError):
    """The sandbox could not run the code, or cannot isolate as strongly as required.

    Not raised for code that fails, crashes or reaches its limits.
    """


class RunStopped(SeccoderxError, RuntimeError):
    """An alarm threshold or an export gate ended the run on purpose."""


class RunInterrupted(SeccoderxError, RuntimeError):
    """Ctrl-C, SIGTERM or SIGHUP ended the run at a safe point; it can be resumed."""
