"""What this project uses of MLflow's undocumented interfaces; checked with MLflow 3.17.2.

`tests/study/tracking/test_mlflow_internals.py` says what breaks when one of them is gone.
"""

from mlflow.tracking._tracking_service.utils import _get_store
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from requests import Response

CHECKED = "3.17.2"


def close_connections(uri: str) -> None:
    """Close the pooled connections to a database, so that the next use opens its file anew."""
    _get_store(uri).engine.dispose()


def delete_permanently(uri: str, run_id: str) -> None:
    """Remove a run from a database; `MlflowClient.delete_run` only marks it as deleted."""
    _get_store(uri)._hard_delete_run(run_id)


def get_once(uri: str, path: str, params: dict[str, int], timeout: float) -> Response:
    """Send one GET request to a server, with the user's credentials and without retries.

    Args:
        uri: The server's address.
        path: Path of the endpoint.
        params: Its parameters.
        timeout: In seconds.

    Returns:
        The response, whatever its status.

    Raises:
        MlflowException: If there is no response.
    """
    response: Response = http_request(
        get_default_host_creds(uri),
        path,
        "GET",
        params=params,
        timeout=timeout,
        max_retries=0,
        raise_on_status=False,
    )
    return response
