"""`secondlook label`: the main job on a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Source(StrEnum):
    """Where a confidence may come from when a model is asked."""

    AUTO = "auto"
    LOGPROBS = "logprobs"
    DECISIONS = "decisions"
    SELF_CONSISTENCY = "self_consistency"
    VERBALIZED = "verbalized"


def label(
    items: Annotated[str, typer.Argument(help="CSV with a header, or JSONL; - is standard input")],
    *,
    labels: Annotated[str | None, typer.Option(help="a,b,c: what a row may be")] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(help='one a line, or JSON: [{"name": …, "description": …}, …]'),
    ] = None,
    instructions: Annotated[str, typer.Option(help="what the model is told of the task")] = "",
    text_column: Annotated[
        str | None, typer.Option(help="what is labelled; `text`, or the only column, by itself")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="your ids; without one, equal texts are asked once")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="else items.labeled.csv beside items.csv; - is standard output"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="the model decides from this confidence on; else 0.95"),
    ] = None,
    model: Annotated[str | None, typer.Option(envvar="SECONDLOOK_MODEL")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(envvar="OPENAI_BASE_URL", help="any OpenAI-compatible server"),
    ] = None,
    source: Annotated[
        Source,
        typer.Option(
            help="where confidences come from; `auto` asks the endpoint once, and several times "
            "a row where it tells no log probabilities"
        ),
    ] = Source.LOGPROBS,
    service: Annotated[
        str | None,
        typer.Option(
            help="URL of a running service, with a key in SECONDLOOK_KEY, in place of embedded "
            "engines; it has a model key of its own",
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(help="name or id; by itself one for each file, labels, model, instructions"),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="where the embedded engines keep their data")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="labelling processes")] = None,
    give_up_after: Annotated[
        float,
        typer.Option(min=0, help="seconds without a label while the model fails; 0: never"),
    ] = 120.0,
    delimiter: Annotated[str | None, typer.Option(help="of CSV, where it is not found out")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="of the input, where it is not UTF-8")
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="before the new columns' names; by itself none, or secondlook_ where one is taken"
        ),
    ] = None,
) -> None:
    """Label a file of rows; they come back in their order, with label and confidence.

    What is not certain enough waits for people in the review queue. Stopped or
    killed, the same command goes on where it was; once all is labelled it asks the
    model nothing, and writes the file again with what people have decided since.

    Ends with 0 when every row was labelled or waits for people, 3 when some rows
    can't be used (they are named), 1 when it was stopped by an error, 2 when it
    can't be done as given, 130 after Ctrl-C.
    """
    from app.commands.label_options import LabelOptions  # noqa: PLC0415  # loads quickly, alone
    from app.commands.label_run import run_label  # noqa: PLC0415  # the other commands need none

    raise typer.Exit(
        run_label(
            LabelOptions(
                items=items,
                labels=labels,
                labels_file=labels_file,
                instructions=instructions,
                text_column=text_column,
                id_column=id_column,
                out=out,
                prefix=prefix,
                delimiter="\t" if delimiter == "\\t" else delimiter,
                encoding=encoding,
                threshold=threshold,
                model=model,
                base_url=base_url,
                source=source.value,
                project=project,
                service=service,
                data_dir=data_dir,
                workers=workers,
                give_up_after=give_up_after,
            )
        )
    )
