"""The files that pages refer to. The pages themselves are with what they are about."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from fitness_api.errors import NotFound
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.pages import assets
from fitness_api.resources import Resources

# Pages name them with a digest of what they hold.
_FOR_EVER: Final = "public, max-age=31536000, immutable"


async def asset(request: Request[Resources]) -> Response:
    found = assets.all_of_them().get(request.path_params["file"])
    if found is None:
        raise NotFound("file")
    return Response(found.body, media_type=found.media_type, headers={"Cache-Control": _FOR_EVER})


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/pages/{file}",
        handler=asset,
        tag="Pages",
        summary="A style sheet or script of the pages",
        parameters=(Parameter(name="file", where="path", description="The file's name.", required=True),),
        answers={200: Media(types=("text/css", "text/javascript"))},
    ),
)
