"""`secondlook evaluate`: what a log of predictions with known labels promises."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    log: Annotated[Path, typer.Argument(help="JSONL with confidence, prediction and label")],
    *,
    target: Annotated[float, typer.Option(help="accuracy to promise for what is delivered")] = 0.99,
    delta: Annotated[float, typer.Option(help="chance that the promise is broken")] = 0.1,
    audits: Annotated[
        int | None, typer.Option(help="items to certify on; half of the log if not given")
    ] = None,
    seed: Annotated[int, typer.Option(help="shuffles the log", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    out: Annotated[
        Path | None, typer.Option(help="folder for reliability.svg and risk_coverage.svg")
    ] = None,
) -> None:
    """Tell from a log how much a model may decide alone at a target accuracy.

    Draws audits at random, certifies a threshold on them and measures it on the rest, beside the
    oracle's share; then accuracy, ranking and calibration of the whole log. A confidence of null is
    unknown and never accepted; a prediction of null is no answer and wrong.
    """
    # the other commands need not wait for numpy, scipy and rich
    import json  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from app.commands import log_report  # noqa: PLC0415
    from app.domain.evaluation import evaluate as evaluate_log  # noqa: PLC0415

    try:
        confidences, correct = log_report.read_log(log)
        result = evaluate_log(
            confidences,
            correct,
            rng=np.random.default_rng(seed),
            target=target,
            delta=delta,
            audits=audits,
        )
        charts = log_report.charts(result)
        if out is not None:
            log_report.write_all(out, charts)
    except OSError as error:
        typer.echo(f"secondlook evaluate: {error.filename}: {error.strerror or error}", err=True)
        raise typer.Exit(2) from error
    except ValueError as error:
        typer.echo(f"secondlook evaluate: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(log_report.as_dict(result), indent=1, allow_nan=False))
        return
    console = Console()
    console.print(log_report.figures(result))
    console.print(log_report.verdict(result))
    if out is not None:
        console.print(f"wrote {', '.join(charts)} to {out}", soft_wrap=True)
