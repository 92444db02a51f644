"""Serving the page, with no host involved but this one. Needs Gradio.

Gradio reads some of its settings from the environment when it is imported; :func:`prepare_environment` comes before.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from pathlib import Path

__all__ = ["make_application", "prepare_environment"]

# The browser is to ask no other host either, whatever the page holds. Gradio's page has scripts and styles in it.
CONTENT_SECURITY_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def prepare_environment(uploads: Path) -> None:
    """Let Gradio keep its files in ``uploads``, and tell nobody of its use."""
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def make_application(page, *, readable: Sequence[Path], max_upload_megabytes: float):
    """An ASGI application that serves the page at ``/``.

    Args:
        page: ``gradio.Blocks``, of :func:`~mm_ovseg.app.page.build_page`.
        readable: folders from which the page itself shows files.
        max_upload_megabytes: size of a file that is taken.
    """
    import gradio
    from fastapi import FastAPI, Request, Response

    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @application.middleware("http")
    async def add_policy(request: Request, respond: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await respond(request)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return gradio.mount_gradio_app(
        application,
        page,
        path="/",
        allowed_paths=[str(folder) for folder in readable],
        max_file_size=round(max_upload_megabytes * 1e6),
        show_error=False,
        ssr_mode=False,
        run_history=False,  # Gradio would keep what visitors made
        footer_links=[],
        enable_monitoring=False,
        mcp_server=False,
        css=files("mm_ovseg.app").joinpath("page.css").read_text(encoding="utf-8"),
    )
