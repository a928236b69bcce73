"""Why a file was not imported.

WorkoutsError
  ├─ LogUnreadable     a training log that cannot be read without more being told, or is none
  ├─ FormatUnknown     none of the formats that we read
  ├─ FileUnreadable    of a known format, and no recorded activity in it
  ├─ FileDamaged       cut off or corrupt, with no part left to read
  ├─ FileTooComplex    more records, sessions or computing than one import may take
  ├─ NotExportable     the workout has nothing that the format is made of
  └─ DecoderBusy       as many files are waiting as may; send again later
"""


class WorkoutsError(Exception):
    """Base of this package's errors; never raised itself."""


class LogUnreadable(WorkoutsError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class FormatUnknown(WorkoutsError):
    def __init__(self) -> None:
        super().__init__("The file is not FIT, GPX or TCX, nor a gzip or zip of one.")


class FileUnreadable(WorkoutsError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class FileDamaged(WorkoutsError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class FileTooComplex(WorkoutsError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class NotExportable(WorkoutsError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class DecoderBusy(WorkoutsError):
    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__("As many files are waiting to be read as may.")
        self.retry_after_s = retry_after_s
