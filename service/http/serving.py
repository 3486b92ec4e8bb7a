"""How the application is served."""

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 5


def configured(app: ASGIApp) -> uvicorn.Config:
    """Return the server's settings, the same wherever it is started."""
    return uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS
    )
