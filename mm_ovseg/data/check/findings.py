"""Problems of datasets: one finding per file and problem, and their report, worst first."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

__all__ = ["ERROR", "KINDS", "WARNING", "Finding", "report_lines", "worst_first"]

ERROR = "error"  # would stop training or evaluation
WARNING = "warning"  # they would run, but on less or other data than intended

# Kind -> severity and heading in the report; worst first.
KINDS: dict[str, tuple[str, str]] = {
    "missing-folder": (ERROR, "missing folders"),
    "no-files": (ERROR, "datasets without files"),
    "unreadable": (ERROR, "files that cannot be read"),
    "missing-partner": (ERROR, "files without a partner"),
    "duplicate-name": (ERROR, "files that share a name"),
    "different-grid": (ERROR, "pairs on different grids"),
    "rgb-unusable": (ERROR, "RGB images that cannot be used as they are"),
    "sar-unusable": (ERROR, "SAR images that cannot be used as they are"),
    "label-unusable": (ERROR, "label maps that cannot be used as they are"),
    "shared-content": (WARNING, "images that two datasets share, one of which may be meant to test the other"),
    "shared-place": (WARNING, "places that two datasets share, one of which may be meant to test the other"),
    "duplicate-content": (WARNING, "images that occur more than once"),
    "class-unnamed": (WARNING, "classes without a proper name"),
    "class-absent": (WARNING, "classes that occur in no label map"),
    "sar-range": (WARNING, "SAR outside INPUT.SAR.RANGE"),
    "nan": (WARNING, "NaN, which counts as nodata"),
    "little-data": (WARNING, "images with data in less than half of their pixels"),
    "blank": (WARNING, "images with a single value"),
    "palette": (WARNING, "files whose palette differs from the others'"),
    "other-type": (WARNING, "files whose type differs from the others'"),
    "label-jpeg": (WARNING, "label maps as JPEG, whose compression changes class numbers"),
    "label-float": (WARNING, "label maps of floats"),
    "label-empty": (WARNING, "label maps without any class"),
    "left-out": (WARNING, "pairs in no dataset"),
}


@dataclass(frozen=True)
class Finding:
    """One problem to fix.

    Attributes:
        kind: One of :data:`KINDS`.
        dataset: Name of the dataset.
        file: The file at fault, or a folder or pattern if there is none.
        message: What is wrong, with the path of every file concerned.
        advice: What to do.
        pair: Key of the file's pair; empty if no single pair is concerned.
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
        """The attributes and the severity, for JSON."""
        return {"severity": self.severity, **asdict(self)}


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings by kind, in the order of :data:`KINDS`, then by file."""
    rank = {kind: index for index, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: (rank[finding.kind], finding.file, finding.message))


def report_lines(findings: Sequence[Finding], *, max_shown: int, shorten: Sequence[str] = ()) -> list[str]:
    """The report for users, worst first: the heading of each kind, its files, and what to do.

    Args:
        findings: In any order.
        max_shown: Maximum number of findings per kind; 0 for all.
        shorten: Folders whose paths are omitted from the messages.
    """
    lines = []
    for severity, meaning in ((ERROR, "training would stop"), (WARNING, "training would run")):
        chosen = [finding for finding in worst_first(findings) if finding.severity == severity]
        if chosen:
            lines += ["", f"{len(chosen)} {severity}{'s' * (len(chosen) > 1)} ({meaning})"]
        for kind, (_, heading) in KINDS.items():
            of_kind = [finding for finding in chosen if finding.kind == kind]
            if not of_kind:
                continue
            lines.append(f"  {heading} [{kind}]")
            shown = of_kind[: max_shown or None]
            for finding in shown:
                line = "; ".join(part for part in (finding.message, finding.advice) if part)
                for folder in shorten:
                    line = line.replace(f"{folder}/", "")
                lines.append(f"    {line}.")
            if hidden := len(of_kind) - len(shown):
                lines.append(f"    ... and {hidden} more (--show 0 lists all)")
    return lines
