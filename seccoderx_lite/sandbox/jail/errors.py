"""How a test can end other than by passing or failing an assertion."""


class BadTest(BaseException):
    """The test text itself is wrong, not the candidate; tests must not catch it."""


class CandidateGone(BaseException):
    """The candidate gave no valid answer; `cause` is the status of the test."""

    def __init__(self, cause: str, note: str) -> None:
        super().__init__(note)
        self.cause = cause


class CandidateError(Exception):
    """Base of the candidate's exception classes that do not derive from a builtin one."""
