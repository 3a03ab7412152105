from __future__ import annotations

from typing import Any

from fastapi import Request

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.errors import NotFoundError
from app.infra.ids import InvalidIdError, Kind, from_wire
from app.labeling.findings import Try
from app.labeling.labeler_schemas import PreviewIn, PreviewOut, ProbeOut, TryOut, WayOut
from app.labeling.labelers import LabelerService
from app.labeling.probing import ProbeFailed
from app.labeling.way import Way
from app.web.openapi import refuses
from app.web.paging import path_id

router = secured_router("labelers")


def _service(request: Request) -> LabelerService:
    service: LabelerService = request.app.state.services.labelers
    return service


@router.post(
    "/labelers/{labeler_id}/preview",
    operation_id="preview_labeler",
    openapi_extra=needs(Scope.READ),
    responses=refuses(409),
)
async def preview_labeler(
    request: Request, labeler_id: str, body: PreviewIn, caller: CurrentCaller
) -> PreviewOut:
    """The exact request that a labeler would send for an item. Nothing is sent.

    Asked by the current label schema of its project, whatever the labeler's revision.
    """
    content: dict[str, Any]
    if body.item is not None:
        content = body.item.content()
    else:
        assert body.item_id is not None
        try:
            item_id = from_wire(Kind.ITEM, body.item_id)
        except InvalidIdError as error:
            raise NotFoundError("no such item") from error
        item = await request.app.state.services.items.get(item_id, caller=caller)
        content = item["content"]
    shown = await _service(request).preview(
        path_id(Kind.LABELER, labeler_id), content, caller=caller
    )
    return PreviewOut(
        path=shown.request.path,
        body=shown.request.body,
        way=_way(shown.way),
        assumed=shown.assumed,
        calls=shown.calls,
        prompt_version=shown.prompt_version,
    )


@router.post(
    "/labelers/{labeler_id}/probe",
    operation_id="probe_labeler",
    openapi_extra=needs(Scope.ADMIN),
    responses=refuses(409),
)
async def probe_labeler(request: Request, labeler_id: str, caller: CurrentCaller) -> ProbeOut:
    """Asks a labeler's endpoint how it can be asked for a confidence, and remembers the answer.

    A few cheap requests about a text that says nothing. Done by itself before the first item of a
    labeler whose source is `auto`; here it is done anew. Where nothing could be found out, `way`
    is null and what was known stays.
    """
    found = await _service(request).probe(path_id(Kind.LABELER, labeler_id), caller=caller)
    if isinstance(found, ProbeFailed):
        return ProbeOut(
            way=None, served_model=None, detail=found.detail, tries=[*map(_try, found.tries)]
        )
    return ProbeOut(
        way=_way(found.way),
        served_model=found.served_model,
        detail=found.tries[-1].said if found.tries else "",
        tries=[*map(_try, found.tries)],
    )


def _way(way: Way) -> WayOut:
    return WayOut(**way.to_json())


def _try(each: Try) -> TryOut:
    return TryOut(way=_way(each.way), fit=each.fit, said=each.said)
