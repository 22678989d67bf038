"""What a user can get wrong, each with the way out.

Every message is one line: it names the file, tensor or option, what was found, what was expected;
the optional hint says what to do about it.
"""


class IntaglioError(Exception):
    """Something the user can mend.

    ``hint`` says how; ``exit_code`` is what the command line returns.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UnsupportedModel(IntaglioError):
    """The checkpoint asks for arithmetic that the integer spec does not define."""


class BadCheckpoint(IntaglioError):
    """The checkpoint's files are damaged, incomplete or not what they claim to be."""


class BadInput(IntaglioError):
    """An option, a prompt or a text is out of its range."""


class BadPackage(IntaglioError):
    """A chip package is damaged, incomplete or of another format."""


class DoesNotFit(IntaglioError):
    """The chip exceeds a bound; the message says which one and by how much."""


class Overflow(IntaglioError):
    """A width in the integer model could overflow; refused when the model is made."""


class ToolMissing(IntaglioError):
    """A program that the step needs is not installed; the message names its package."""

    exit_code = 3


class Mismatch(IntaglioError):
    """Two things that must be equal bit for bit are not; the message names the first difference."""

    exit_code = 1


class Deadline(IntaglioError):
    """A simulation did not finish within the cycles it is allowed."""

    exit_code = 1
