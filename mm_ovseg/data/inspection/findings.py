"""What is wrong with a dataset: one finding a file and problem, and the report of them, worst first."""

from collections.abc import Sequence
from dataclasses import dataclass

from mm_ovseg.errors import MMOVSegError

__all__ = ["ERROR", "KINDS", "WARNING", "Finding", "error_finding", "report_lines", "worst_first"]

ERROR = "error"  # training or evaluation would stop there
WARNING = "warning"  # they would run, but on less or on something else than was meant

# Kind -> severity and heading in the report; worst first.
KINDS: dict[str, tuple[str, str]] = {
    "missing-folder": (ERROR, "folders that are not there"),
    "no-files": (ERROR, "datasets without files"),
    "unreadable": (ERROR, "files that cannot be read"),
    "missing-partner": (ERROR, "files without partner"),
    "duplicate-name": (ERROR, "several files of one name"),
    "different-grid": (ERROR, "pairs on different grids"),
    "rgb-unusable": (ERROR, "RGB that cannot be used as it is"),
    "sar-unusable": (ERROR, "SAR that cannot be used as it is"),
    "label-unusable": (ERROR, "label maps that cannot be used as they are"),
    "shared-content": (WARNING, "the same image in two datasets, of which one may be to test the other"),
    "shared-place": (WARNING, "the same place in two datasets, of which one may be to test the other"),
    "duplicate-content": (WARNING, "the same image more than once"),
    "class-unnamed": (WARNING, "classes without a name of their own"),
    "class-absent": (WARNING, "classes that no label map has"),
    "sar-range": (WARNING, "SAR outside INPUT.SAR.RANGE"),
    "nan": (WARNING, "NaN, which counts as no data"),
    "little-data": (WARNING, "images with data in less than half of their pixels"),
    "blank": (WARNING, "images with one value everywhere"),
    "palette": (WARNING, "files with another palette than the rest"),
    "other-type": (WARNING, "files of another type than the rest"),
    "label-jpeg": (WARNING, "label maps as JPEG, whose compression changes class numbers"),
    "label-float": (WARNING, "label maps of floats"),
    "label-empty": (WARNING, "label maps without any class"),
    "left-out": (WARNING, "pairs in no dataset"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that a person should fix.

    Attributes:
        kind: One of :data:`KINDS`.
        dataset: Name of the dataset.
        file: The file at fault; a folder or pattern where there is none.
        message: What is wrong, with the path of every file that it is about.
        advice: What to do.
        pair: Key of the pair that the file belongs to; empty where it is about no single one.
    """

    kind: str
    dataset: str
    file: str
    message: str
    advice: str
    pair: str = ""

    @property
    def severity(self) -> str:
        """:data:`ERROR` or :data:`WARNING`."""
        return KINDS[self.kind][0]

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "dataset": self.dataset,
            "pair": self.pair,
            "file": self.file,
            "message": self.message,
            "advice": self.advice,
        }


def error_finding(kind: str, dataset: str, file: str, error: MMOVSegError, pair: str = "") -> Finding:
    """The finding that training would stop with: an error's sentence says what is wrong, and after it what to do."""
    message, separator, advice = str(error).rpartition("; ")
    if not separator:
        message, advice = advice, ""
    return Finding(kind, dataset, file, message.rstrip("."), advice.rstrip("."), pair)


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings by kind, in the order of :data:`KINDS`, and file."""
    rank = {kind: index for index, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: (rank[finding.kind], finding.file, finding.message))


def report_lines(findings: Sequence[Finding], *, most: int, shorten: Sequence[str] = ()) -> list[str]:
    """The report of findings for people, worst first: of each kind its heading, its files, and what to do.

    Args:
        findings: In any order.
        most: So many of each kind are shown; 0: all.
        shorten: Folders whose paths are left out of the messages.
    """
    lines = []
    findings = worst_first(findings)
    for severity, meaning in ((ERROR, "training would stop"), (WARNING, "training would run")):
        of_severity = [finding for finding in findings if finding.severity == severity]
        if not of_severity:
            continue
        lines += ["", f"{len(of_severity)} {severity}{'s' * (len(of_severity) > 1)} ({meaning})"]
        for kind in KINDS:
            if of_kind := [finding for finding in of_severity if finding.kind == kind]:
                lines += _lines_of_kind(of_kind, most, shorten)
    return lines


def _lines_of_kind(findings: Sequence[Finding], most: int, shorten: Sequence[str]) -> list[str]:
    lines = [f"  {KINDS[findings[0].kind][1]} [{findings[0].kind}]"]
    shown = findings[:most] if most else findings
    for finding in shown:
        message = finding.message
        for folder in shorten:
            message = message.replace(f"{folder}/", "")
        lines.append(f"    {message}; {finding.advice}." if finding.advice else f"    {message}.")
    if hidden := len(findings) - len(shown):
        lines.append(f"    ... and {hidden} more (--show 0 lists all)")
    return lines
