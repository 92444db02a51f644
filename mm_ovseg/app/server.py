"""Serving the page without contacting any other host. Needs Gradio.

Gradio reads some settings from the environment when it is imported; call :func:`prepare_environment` first.
"""

import os
import shutil
from importlib.resources import files as package_files
from pathlib import Path

from mm_ovseg.app.gate import UPLOAD_ROUTE, Gate, Refusal
from mm_ovseg.app.hosts import Hosts
from mm_ovseg.app.runs import Runs
from mm_ovseg.app.visitor_files import VisitorFiles

__all__ = ["make_application", "prepare_environment"]


def prepare_environment(uploads: Path) -> None:
    """Make Gradio keep its files in ``uploads`` and send no telemetry."""
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def make_application(page, *, hosts: Hosts, files: VisitorFiles, runs: Runs, max_upload_megabytes: float):
    """An ASGI application that serves the page at ``/``.

    Args:
        page: ``gradio.Blocks``, from :func:`~mm_ovseg.app.page.build_page`.
        hosts: names of the page.
        files: the visitors' files, in the folder of :func:`prepare_environment`.
        runs: the model's runs.
        max_upload_megabytes: size limit of a file.
    """
    import gradio
    from fastapi import FastAPI

    max_upload_bytes = round(max_upload_megabytes * 1e6)
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def waiting(address: str) -> int:
        queues = page._queue.event_queue_per_concurrency_id.values()  # Gradio only reports the total
        return sum(event.request.client.host == address for queue in queues for event in queue.queue)

    application.add_middleware(
        Gate, hosts=hosts, files=files, runs=runs, waiting=waiting, max_upload_bytes=max_upload_bytes
    )
    _add_upload(application, page, files, max_upload_bytes)
    # Served in place; Gradio copies other files first.
    gradio.set_static_paths(sorted(files.shared))
    gradio.mount_gradio_app(
        application,
        page,
        path="/",
        max_file_size=max_upload_bytes,
        show_error=False,
        ssr_mode=False,
        run_history=False,  # would keep the visitors' results
        footer_links=[],
        enable_monitoring=False,
        mcp_server=False,
        css=package_files("mm_ovseg.app").joinpath("page.css").read_text(encoding="utf-8"),
    )
    page.has_launched = True  # otherwise Gradio does not check paths
    return application


def _add_upload(application, page, files: VisitorFiles, max_upload_bytes: int) -> None:
    """Keep uploads in the folder of their visitor; Gradio's own route shares one folder."""
    from fastapi import Request
    from gradio.route_utils import MultiPartException, upload_fn
    from gradio.routes import file_upload_statuses

    @application.post(UPLOAD_ROUTE)
    async def upload(request: Request, upload_id: str | None = None):
        folder = files.new_folder(request.state.visitor)
        progress = file_upload_statuses if upload_id else None
        try:
            paths, _, _ = await upload_fn(request, folder, max_upload_bytes, upload_id, upload_progress=progress)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, MultiPartException):
                return Refusal(413 if "exceeded maximum" in error.message else 400, error.message).response()
            raise
        page.upload_file_set.update(str(path) for path in paths)
        return [str(path) for path in paths]
