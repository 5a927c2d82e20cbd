import logging
import uuid
from collections.abc import Iterator

import pytest

from asdbench.io.storage import Storage
from tests.exported import AUTOENCODER, Exported, export_tiny, tiny_workspace


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a server that speaks S3, in this process, without buckets."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: str) -> str:
    """URI of a bucket, with what it takes to connect in a query to put behind it.

    It is made for each test: others that mock AWS in this process empty the server.
    """
    from pyarrow.fs import FileSystem

    query = f"scheme=http&endpoint_override={s3_server}&region=us-east-1"
    system, bucket = FileSystem.from_uri(f"s3://user:hidden@results?{query}&allow_bucket_creation=true")
    system.create_dir(bucket)
    return f"s3://user:hidden@results/FOLDER?{query}"


@pytest.fixture
def s3(s3_bucket: str) -> Storage:
    """An empty storage in that bucket."""
    return Storage.from_location(s3_bucket.replace("FOLDER", uuid.uuid4().hex))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An autoencoder that was exported with both machine types; never changed."""
    base = tmp_path_factory.mktemp("exported")
    return export_tiny(tiny_workspace(base), base / "detector", "baseline-mse", AUTOENCODER)
